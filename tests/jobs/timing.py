"""Tasks for timers: one that notes when it was started, and what it does then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from durable import Child, Durable, TaskContext
from durable.jobs import TimerContext
from durable.testing import VirtualStorage

__all__ = ["Act", "Fired", "Notes", "failing"]

Fired = list[tuple[str, float]]
Act = Callable[[TimerContext, str], Awaitable[None]]


class Notes:
    """A task that notes its text and the seconds since now, and then does what `act` says."""

    def __init__(self, app: Durable, storage: VirtualStorage, act: Act | None = None) -> None:
        start = storage.now()
        self.fired: Fired = []
        self.attempts: list[tuple[int, str | None]] = []
        """The attempt, and the message of the error before."""

        @app.task
        async def note(ctx: TaskContext, text: str) -> None:
            assert isinstance(ctx, TimerContext)
            assert (ctx.task_name, await app.timers.get(ctx.timer_id) is not None) == ("note", True)
            self.fired.append((text, (storage.now() - start).total_seconds()))
            self.attempts.append((ctx.attempt, ctx.previous_error and ctx.previous_error.message))
            if act is not None:
                await act(ctx, text)

        self.child: Callable[[str], Child[None]] = note.child


def failing(times: int) -> Act:
    """The first starts fail."""
    left = [times]

    async def act(ctx: TimerContext, text: str) -> None:
        if left[0] > 0:
            left[0] -= 1
            raise ValueError(f"no {ctx.attempt}")

    return act
