"""The load of a kill run: every kind of execution in fixed proportions, and what each must come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

from durable import Child, Status
from tests.faults.app import Tasks

__all__ = ["Expected", "Unit", "units"]

_WEIGHTS = {
    "plain": 50, "thread": 10, "flaky": 10, "doomed": 3, "parent": 10, "tree": 2, "steps": 5, "turns": 5, "sleeper": 5,
}  # fmt: skip


class Expected(NamedTuple):
    """How an execution must end."""

    kind: str
    status: Status
    value: int | None


class Unit(NamedTuple):
    """What is enqueued together: one root, or a sleeper and the task that wakes it."""

    calls: list[Child[Any]]
    expected: list[Expected]


def units(tasks: Tasks, random: Random, count: int) -> Iterator[Unit]:
    """Units with `count` roots in all, shuffled by the random source."""
    makers: dict[str, Callable[[int], Unit]] = {
        "plain": lambda n: _one("plain", tasks.plain.child(n), n),
        "thread": lambda n: _one("thread", tasks.thread.child(n), n),
        "flaky": lambda n: _one("flaky", tasks.flaky.child(n), n),
        "doomed": lambda n: _one("doomed", tasks.doomed.child(n), None, Status.FAILED),
        "parent": lambda n: _one("parent", tasks.parent.child(n), n + 1 + 2 + 3),
        "tree": lambda n: _one("tree", tasks.tree.child(n), 2 * (n + 1 + 2 + 3)),
        "steps": lambda n: _one("steps", tasks.steps.child(n), n),
        "turns": lambda n: _one("turns", tasks.turns.child(n), n),
        "sleeper": lambda n: Unit(
            [tasks.sleeper.child(f"sleeper-{n}"), tasks.waker.child(f"sleeper-{n}", n)],
            [Expected("sleeper", Status.COMPLETED, n), Expected("waker", Status.COMPLETED, n)],
        ),
    }
    made = 0
    while made < count:
        (kind,) = random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        unit = makers["plain" if kind == "sleeper" and count - made < 2 else kind](made)
        made += len(unit.calls)
        yield unit


def _one(kind: str, call: Child[Any], value: int | None, status: Status = Status.COMPLETED) -> Unit:
    return Unit([call], [Expected(kind, status, value)])
