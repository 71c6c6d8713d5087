"""Timers: when they fire, in which order, and what a failure, a cancel or a crash leaves of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from durable import Durable
from durable.testing import VirtualStorage, app_under_test

Fired = list[tuple[str, float]]


def noting(app: Durable, storage: VirtualStorage, act: Callable[[str], Any] | None = None) -> tuple[Any, Fired]:
    """A task that notes its text and the seconds since now."""
    start = storage.now()
    fired: Fired = []

    @app.task
    async def note(text: str) -> None:
        fired.append((text, (storage.now() - start).total_seconds()))
        if act is not None:
            act(text)

    return note, fired


async def test_tm_01_timers_fire_at_their_moments_in_order(app: Durable, storage: VirtualStorage) -> None:
    note, fired = noting(app, storage)
    async with app_under_test(app, storage=storage) as kit:
        start = kit.clock.now()
        await app.timers.every("2m", note.child("every"), owner="o")
        await app.timers.at(start + timedelta(minutes=3), note.child("at"), owner="o")
        await app.timers.after("3m", note.child("after"), owner="o")
        await kit.drain()
        assert fired == []
        await kit.clock.advance("5m")
        assert fired == [("every", 120.0), ("at", 180.0), ("after", 180.0), ("every", 240.0)]
