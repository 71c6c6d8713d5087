"""The executions of the census: a parent, a child for each file, and the sum of what the children found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from durable import ChildResult, Durable, Registry, Retry, Spawn, TaskContext, constant
from examples.census.counting import Counts, count_file, sources_of

__all__ = ["MOST_FILES", "Census", "FileCounts", "Job", "census", "census_app"]

MOST_FILES = 10_000
"""The most children that one parent may start."""

registry = Registry()


@dataclass(frozen=True, slots=True)
class Job:
    """What to count, and how to make it interesting."""

    folder: str
    fails_once: bool = False
    """Whether the first file's child fails at its first attempt."""
    pause: float = 0.0
    """Seconds that each child rests after it has counted."""


@dataclass(frozen=True, slots=True)
class FileCounts:
    path: str
    counts: Counts
    attempt: int
    """1 unless an attempt before had failed."""
    previous_error: str | None
    """Why it was started again: the error of the failed attempt, or the lease that ran out."""


@dataclass(frozen=True, slots=True)
class Census:
    counts: Counts
    started_again: list[FileCounts]
    """The children that were started more than once, and counted once all the same."""


class FailsOnce(Exception):
    """Raised on purpose."""


@registry.task(retry=Retry(max_attempts=3, delay=constant("200ms")))
def count_one(ctx: TaskContext, path: str, fails_once: bool, pause: float) -> FileCounts:
    """One child. It writes nothing anywhere, so it does no harm to run it again."""
    if fails_once and ctx.attempt == 1:
        raise FailsOnce("as it was asked to")
    counts = count_file(Path(path))
    if pause:
        ctx.cancel_signal.wait(pause)
    error = ctx.previous_error
    return FileCounts(path, counts, ctx.attempt, None if error is None else str(error))


def add_up(job: Job, ends: list[ChildResult[FileCounts]]) -> Census:
    """The last word of the parent, when every child has finished; a child without a result fails the census."""
    found = [end.result() for end in ends]
    return Census(Counts.total(each.counts for each in found), [each for each in found if each.previous_error])


@registry.parent(finalize=add_up)
def census(job: Job) -> Spawn[Job]:
    """The parent: finished for now as soon as it has named its children, which run wherever there is an executor."""
    files = sources_of(Path(job.folder))
    return Spawn(job, [count_one.child(str(path), job.fails_once and not n, job.pause) for n, path in enumerate(files)])


def census_app(dsn: str | None, schema: str) -> Durable:
    """The app of this process; None stands for DURABLE_DSN, or the embedded server."""
    app = Durable(dsn, schema=schema, migrate=True)
    app.include(registry)
    return app
