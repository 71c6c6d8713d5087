"""The system clock keeps the promises of the protocol; the virtual one stands still until it is moved."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest

from durable import ConfigurationError
from durable.clock import Clock, SystemClock
from durable.testing import VirtualClock


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


def test_a_virtual_clock_starts_at_one_moment_in_every_run_or_where_it_is_told() -> None:
    at = datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert VirtualClock().now() == VirtualClock().now() == datetime(2030, 1, 1, tzinfo=UTC)
    assert VirtualClock(at).now() == at


@pytest.mark.parametrize("duration", ["1d1h", 90_000, timedelta(hours=25)])
def test_a_virtual_clock_moves_by_any_form_of_a_duration(duration: str | float | timedelta) -> None:
    clock = VirtualClock()
    start = clock.now()
    assert clock.advance(duration) == clock.now() == start + timedelta(hours=25)


def test_a_virtual_clock_refuses_to_go_back_and_times_without_a_zone() -> None:
    clock = VirtualClock()
    start = clock.now()
    with pytest.raises(ConfigurationError, match="duration is -1"):
        clock.advance(-1)
    with pytest.raises(ConfigurationError, match="no time zone"):
        clock.move_to(datetime(2031, 1, 1))  # noqa: DTZ001 - the point of it
    assert clock.now() == start
