"""How an executor behaves: its limits and its times, checked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypedDict

from durable.checks import integer
from durable.durations import Duration, seconds
from durable.errors import ConfigurationError
from durable.execution import DEFAULT_QUEUE

__all__ = ["NAME_LIMIT", "ExecutorOptions", "ExecutorSettings", "checked_name"]

NAME_LIMIT: Final = 200
_LONGEST_UPKEEP: Final = 15.0


def checked_name(name: object, field: str) -> str:
    """A name of a task, queue or schema-like thing: 1 to 200 printable characters, not starting with `_durable`.

    Raises ConfigurationError naming the field and the rule.
    """
    if not isinstance(name, str):
        raise ConfigurationError(f"{field} is a {type(name).__name__}; give a str")
    if not 1 <= len(name) <= NAME_LIMIT or not name.isprintable() or name != name.strip():
        raise ConfigurationError(
            f"{field} {name[:80]!r} must be 1 to {NAME_LIMIT} printable characters without blanks at the ends"
        )
    if name.startswith("_durable"):
        raise ConfigurationError(f"{field} {name!r} starts with _durable, which is reserved")
    return name


class ExecutorOptions(TypedDict, total=False):
    """What `app.executor(…)` takes; see ExecutorSettings for meanings and defaults."""

    queues: Sequence[str]
    pools: Sequence[str] | None
    concurrency: int
    threads: int
    lease: Duration
    poll_interval: Duration
    upkeep_interval: Duration | None
    grace: Duration
    keep_waiting: Duration
    keep_waiting_mib: int
    retention: Duration | None
    gc_threshold: int | None


@dataclass(frozen=True, slots=True, init=False)
class ExecutorSettings:
    """Settings of one executor; times are seconds."""

    queues: tuple[str, ...]
    """Queues and pools, by name."""
    pools: tuple[str, ...] | None
    """Pools; None means those that the app declares, and those among `queues`. Empty: none."""
    concurrency: int
    """Handlers that run at once."""
    threads: int
    """Threads for sync handlers; those beyond wait for one, holding their lease."""
    lease: float
    poll_interval: float
    """The longest time that ready work waits when every hint is lost; what comes due is started at its moment."""
    upkeep_interval: float
    """Between scans for expired leases and deadlines."""
    grace: float
    """How long shutdown waits for running handlers before it cancels and releases them."""
    keep_waiting: float
    """How long a workflow that waits stays in memory, so that it need not be replayed if it goes on here. It is let go
    by upkeep. One that cannot go on within this time, as in a long sleep, does not stay at all. 0: none does."""
    keep_waiting_mib: int
    """What all of those may take by an estimate, in MiB; beyond it those go that wait longest."""
    retention: float | None
    """How long trees that have ended are kept. None: this executor deletes nothing; of several the shortest counts."""
    gc_threshold: int | None
    """New objects after which Python's garbage collector looks for cycles, while this executor runs; it is a setting of
    the process, which is raised and never lowered. None leaves it alone."""

    def __init__(
        self,
        *,
        queues: Sequence[str] = (DEFAULT_QUEUE,),
        pools: Sequence[str] | None = None,
        concurrency: int = 100,
        threads: int = 32,
        lease: Duration = 15.0,
        poll_interval: Duration = 2.0,
        upkeep_interval: Duration | None = None,
        grace: Duration = 30.0,
        keep_waiting: Duration = 10.0,
        keep_waiting_mib: int = 64,
        retention: Duration | None = "30d",
        gc_threshold: int | None = 10_000,
    ) -> None:
        """Raise ConfigurationError, naming the field and its limits, for a value that cannot be meant."""
        if isinstance(queues, str) or not queues:
            raise ConfigurationError("queues must be a list of at least one queue name")
        put = object.__setattr__
        put(self, "queues", tuple(dict.fromkeys(checked_name(queue, "queue") for queue in queues)))
        if isinstance(pools, str):
            raise ConfigurationError("pools must be a list of names, or None")
        named = None if pools is None else tuple(dict.fromkeys(checked_name(pool, "pool") for pool in pools))
        put(self, "pools", named)
        put(self, "concurrency", integer(concurrency, "concurrency", 1, 10_000))
        put(self, "threads", integer(threads, "threads", 1, 1_000))
        put(self, "lease", seconds(lease, "lease", minimum=0.5, maximum=3600.0))
        put(self, "poll_interval", seconds(poll_interval, "poll_interval", minimum=0.01, maximum=600.0))
        put(
            self,
            "upkeep_interval",
            min(self.lease / 3, _LONGEST_UPKEEP)
            if upkeep_interval is None
            else seconds(upkeep_interval, "upkeep_interval", minimum=0.01, maximum=600.0),
        )
        put(self, "grace", seconds(grace, "grace", maximum=86_400.0))
        put(self, "keep_waiting", seconds(keep_waiting, "keep_waiting", maximum=86_400.0))
        put(self, "keep_waiting_mib", integer(keep_waiting_mib, "keep_waiting_mib", 1, 1_000_000))
        put(self, "retention", None if retention is None else seconds(retention, "retention"))
        threshold = None if gc_threshold is None else integer(gc_threshold, "gc_threshold", 1, 1_000_000)
        put(self, "gc_threshold", threshold)
