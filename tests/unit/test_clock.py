"""The system clock keeps the promises of the protocol."""

from __future__ import annotations

import asyncio

import pytest

from durable.clock import Clock, SystemClock


def test_monotonic_never_goes_back() -> None:
    clock: Clock = SystemClock()
    readings = [clock.monotonic() for _ in range(100)]
    assert readings == sorted(readings)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_a_sleep_of_nothing_gives_other_tasks_a_turn(seconds: float) -> None:
    turns: list[str] = []

    async def other() -> None:
        turns.append("other")

    task = asyncio.create_task(other())
    await SystemClock().sleep(seconds)
    assert turns == ["other"]
    await task
