"""What is measured, and how what a program found becomes figures, or is refused.

A program is called with a workload and a count, in an empty database. Every program measures the same way:

- `drain`: so many no-op jobs wait. From the first call of the handler, so without what a worker's start takes, until
  the database knows the end of each.
- `enqueue`: one client, one job after another, each committed before the next.
- `bulk`: so many jobs by as few calls as the library has, in one transaction.
- `latency`: an idle worker, one job at a time, from the return of the enqueue to the handler's first line, both in one
  process, the word of it through the database.
- `steps`: so many workflows of five no-op steps, each stored before the next. Measured as `drain`.
- `fanout`: one parent that starts so many children and sums up their results, from its enqueue to its result.
- `idle`: a worker with nothing to do, for so many seconds: statements that reach the server, CPU of the worker.

Before a drain the tables are analysed, as autovacuum would have done in a service that runs for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.common import Figures, quantile
from benchmarks.peers.children import ProgramFailed
from benchmarks.peers.script import STEPS

__all__ = ["COMPARISONS", "Comparison"]

Found = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One workload."""

    name: str
    question: str
    count: int
    unit: str
    main: tuple[str, ...]
    """The figures that are shown."""
    figures: Callable[[Found, int], Figures]
    """From what the program found. Raises ProgramFailed where it did not do all its work."""
    is_more_better: bool = False
    paced_count: int | None = None
    """The count for a worker at its default polling; None where that is not measured."""
    is_timed: bool = False
    """Whether the count is of seconds, and so is never raised above its own."""

    @property
    def judged(self) -> str:
        """The figure by which libraries are compared."""
        return self.main[0]


def _rate(name: str, per_count: int = 1) -> Callable[[Found, int], Figures]:
    def figures(found: Found, count: int) -> Figures:
        wanted = count * per_count
        if found["done"] != wanted:
            raise ProgramFailed(f"did {found['done']} of {wanted}; its rate means nothing")
        return {name: wanted / found["seconds"]}

    return figures


def _latencies(found: Found, count: int) -> Figures:
    values: list[float] = found["latencies_ms"]
    if len(values) != count:
        raise ProgramFailed(f"timed {len(values)} of {count}")
    return {"p50_ms": quantile(values, 0.5), "p99_ms": quantile(values, 0.99)}


def _seconds(found: Found, count: int) -> Figures:
    wanted = sum(number * number for number in range(count))
    if found["total"] != wanted:
        raise ProgramFailed(f"its children gave {found['total']} and not {wanted}; its time means nothing")
    return {"seconds": found["seconds"]}


def _rest(found: Found, _: int) -> Figures:
    """Statements, where the server counts them, come from the server."""
    counted = ("statements_per_s", "transactions_per_s")
    figures: Figures = {name: found[name] for name in counted if name in found}
    return {**figures, "cpu_s_per_min": found["cpu_s"] / found["seconds"] * 60}


COMPARISONS: Final[Mapping[str, Comparison]] = {
    comparison.name: comparison
    for comparison in (
        Comparison("drain", "no-op jobs that wait, one worker process: how many per second?", 20_000, "jobs",
                   ("rate_per_s",), _rate("rate_per_s"), is_more_better=True),
        Comparison("enqueue", "one client, one by one: how many per second?", 3_000, "jobs",
                   ("rate_per_s",), _rate("rate_per_s"), is_more_better=True),
        Comparison("bulk", "one client, all in one transaction: how many per second?", 20_000, "jobs",
                   ("rate_per_s",), _rate("rate_per_s"), is_more_better=True),
        Comparison("latency", "idle worker, from commit to the handler's start", 300, "jobs",
                   ("p50_ms", "p99_ms"), _latencies, paced_count=10),
        Comparison("steps", "workflows of 5 checkpointed steps: how many steps per second?", 1_000, "workflows",
                   ("steps_per_s",), _rate("steps_per_s", STEPS), is_more_better=True),
        Comparison("fanout", "one parent that gathers so many children, enqueue to result", 1_000, "children",
                   ("seconds",), _seconds),
        Comparison("idle", "a worker with nothing to do", 10, "seconds",
                   ("statements_per_s", "cpu_s_per_min"), _rest, paced_count=10, is_timed=True),
    )
}  # fmt: skip
