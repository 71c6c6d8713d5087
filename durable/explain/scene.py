"""What an explanation is made from, and what it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from durable.execution import ChildOutcome, Execution
from durable.explain.words import span
from durable.storage import ExecutorRow

__all__ = ["Finding", "Scene", "is_alive", "names"]

_SILENCE: Final = timedelta(seconds=60)
"""An executor says that it lives at every upkeep, by default every 5 s, and at most every 10 minutes."""
_MOST_NAMES: Final = 5


class Finding(NamedTuple):
    """One thing that is so, and what to do about it."""

    code: str
    """A word that stays the same when the sentence changes, for programs."""
    text: str
    advice: str = ""
    """Empty where there is nothing to do."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One execution at one moment of the storage's clock."""

    execution: Execution
    now: datetime
    executors: Sequence[ExecutorRow] = ()
    unfinished: Sequence[ChildOutcome] = ()
    """Children that have not finished, its finalize execution included; some of them are enough."""

    @property
    def alive(self) -> list[ExecutorRow]:
        return [row for row in self.executors if is_alive(row, self.now)]

    @property
    def serving(self) -> list[ExecutorRow]:
        """Live executors of its queue."""
        return [row for row in self.alive if self.execution.queue in row.queues]

    @property
    def able(self) -> list[ExecutorRow]:
        """Live executors of its queue that know its task."""
        return [row for row in self.serving if self.execution.task_name in row.task_names]

    def ago(self, at: datetime) -> str:
        return f"{span((self.now - at).total_seconds())} ago"

    def until(self, at: datetime) -> float:
        """Seconds from now; negative for what has passed."""
        return (at - self.now).total_seconds()


def is_alive(row: ExecutorRow, now: datetime) -> bool:
    """True when the executor has spoken within the last minute. A guess for people: leases decide, not this."""
    return now - row.seen_at <= _SILENCE


def names(found: Sequence[str]) -> str:
    """A list for a sentence, cut to a few with the number of the others."""
    shown = ", ".join(found[:_MOST_NAMES])
    return shown if len(found) <= _MOST_NAMES else f"{shown} and {len(found) - _MOST_NAMES} more"
