"""What a turn of an owner's timers is, how it ends, and what the task that it runs is told of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from durable.codec import Codec
from durable.context import TaskContext
from durable.definition import Definition
from durable.execution import DEFAULT_QUEUE, FINISHED, Kind, Settlement, Status
from durable.job import JobCommit, JobKind, NewTurn
from durable.jobs.ends import Ends
from durable.jobs.spec import KeyedSpec
from durable.options import checked_task_options
from durable.retry import NO_RETRY
from durable.timer import TIMERS, StoredTimer, TimerEnd

__all__ = ["TIMER_TURNS", "UNKNOWN_TASK_DELAY", "TimerContext", "TimerEnds", "TimerSpec", "timer_turn", "timer_turns"]

TIMER_TURNS: Final = f"{JobKind.TIMER}:{TIMERS}"
"""The name under which the turns of all timers are claimed, by every executor that knows a task."""

UNKNOWN_TASK_DELAY: Final = 60.0
"""Seconds for which a timer is put off whose task the executor does not know: another one may."""

_MAX_DELIVERIES: Final = 5


@dataclass(kw_only=True)
class TimerSpec(KeyedSpec):
    """Timers have no state of their own, and their turns do not fail."""


def timer_turns(codec: Callable[[], Codec]) -> Definition:
    """The definition behind the turns of all timers."""
    spec = TimerSpec(
        kind=JobKind.TIMER,
        name=TIMERS,
        codec=codec,
        state_type=None,
        state_version=1,
        migrate=None,
        on_exhausted="continue",
    )
    options = checked_task_options(
        retry=NO_RETRY, timeout=None, delay=0, queue=DEFAULT_QUEUE, priority=0, version=1,
        max_deliveries=_MAX_DELIVERIES,
    )  # fmt: skip
    return Definition(name=spec.task_name, kind=Kind.TURN, function=None, codec=codec, options=options, spec=spec)


def timer_turn(turn_id: str, queue: str, priority: int) -> NewTurn:
    """The turn that a new timer needs if its owner has none."""
    return NewTurn(turn_id, TIMER_TURNS, 1, queue, priority, NO_RETRY.max_attempts, None)


class TimerEnds(Ends):
    """Builds the commits of turns of timers: a start that fails is noted on the timer, and the turn is accepted."""

    timer: StoredTimer | None = None
    """The timer that this turn starts; None: not yet taken, or none is due."""

    def succeeded(self, timer: StoredTimer) -> JobCommit:
        return self._commit(runs=1)._replace(timer=TimerEnd(timer.id, None, 0.0, 0))

    def failed(self, timer: StoredTimer, error: str, *, delay: float | None = None) -> JobCommit:
        """It is tried again after `delay` seconds; None: after its retry interval."""
        end = TimerEnd(timer.id, error, timer.retry_interval if delay is None else delay, timer.attempt)
        return self._commit(runs=0)._replace(timer=end)

    def failed_for_good(self, timer: StoredTimer, error: str) -> JobCommit:
        end = TimerEnd(timer.id, error, 0.0, timer.attempt, is_final=True)
        return self._commit(runs=0)._replace(timer=end)

    def put_off(self, timer: StoredTimer, error: str) -> JobCommit:
        """It was not started after all."""
        end = TimerEnd(timer.id, error, UNKNOWN_TASK_DELAY, timer.attempt - 1)
        return self._commit(runs=0)._replace(timer=end)

    def close(self, settlement: Settlement) -> Settlement:
        """What stopped the turn, such as its timeout, is an error of the timer that it ran."""
        if settlement.status not in FINISHED or settlement.job is not None:
            return settlement
        if self.timer is None:
            return settlement._replace(job=self.nothing())
        commit = self.failed(self.timer, settlement.error or "null")
        return settlement._replace(
            status=Status.COMPLETED, output="null", error=None, reason=None, deliveries=0, job=commit
        )


class TimerContext(TaskContext):
    """The TaskContext of a task that a timer runs."""

    __slots__ = ("_timer",)

    def __init__(self, timer: StoredTimer, *args: Any, **services: Any) -> None:
        super().__init__(*args, **services)
        self._timer = timer

    @property
    def task_name(self) -> str:
        return self._timer.task_name

    @property
    def attempt(self) -> int:
        """1 for the first start since the timer was set or last succeeded; a start cut short by a crash counts."""
        return self._timer.attempt

    @property
    def max_attempts(self) -> int:
        """No end of them: a timer is retried until it succeeds, is cancelled, or fails for good."""
        return 2**31 - 1

    @property
    def timer_id(self) -> str:
        return self._timer.id

    @property
    def owner(self) -> str:
        return self._timer.owner

    @property
    def timer_name(self) -> str | None:
        """The slot it was set in."""
        return self._timer.name

    @property
    def due_at(self) -> datetime:
        """The moment this start was planned for; that of the retry, if it is one."""
        return self._timer.due_at
