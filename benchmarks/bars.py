"""What each figure has to come to, and whether it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from benchmarks.tables import shown

__all__ = ["BARS", "LIMIT", "OURS", "Bar", "Line", "lines"]

OURS: Final = "durable"
"""As the comparison calls it."""
LIMIT: Final = "bare loop"


class Bar(NamedTuple):
    """One figure of one workload and what it must reach."""

    workload: str
    figure: str
    bar: float
    words: str
    """The figure for people."""
    is_least: bool = True
    """Whether the bar is the least it may be; False: the most."""

    def is_reached(self, value: float) -> bool:
        return value >= self.bar if self.is_least else value <= self.bar


class Line(NamedTuple):
    """A bar beside what was found."""

    bar: Bar
    ours: float | None
    best_peer: str
    """Name and figure of the best of the others in the last comparison; a dash where there is none."""

    @property
    def answer(self) -> str:
        if self.ours is None:
            return "not measured"
        return "yes" if self.bar.is_reached(self.ours) else "no"

    @property
    def wanted(self) -> str:
        return f"{'≥' if self.bar.is_least else '≤'} {shown(self.bar.bar)}"


BARS: Final = (
    Bar("drain", "ratio", 0.6, "part of the bare loop's rate"),
    Bar("enqueue", "ratio", 0.8, "part of the bare inserts' rate"),
    Bar("enqueue", "clients_hints_ratio", 0.95, "32 clients with hints, to without"),
    Bar("bulk", "rate_per_s", 100_000, "executions per second"),
    Bar("latency", "p50_ms", 0.8, "p50, ms from commit to start", is_least=False),
    Bar("latency", "p99_ms", 2.5, "p99, ms from commit to start", is_least=False),
    Bar("steps", "steps_per_s", 15_000, "steps per second"),
    Bar("fanout", "seconds", 0.15, "seconds for all children", is_least=False),
    Bar("backlog", "ratio", 0.9, "the first of all that wait, to the drain"),
    Bar("history", "ratio", 0.9, "beside all that ended, to the drain"),
    Bar("held", "throughput_ratio", 0.8, "throughput at the end of the hold, to before"),
    Bar("held", "claim_p99_ratio", 5, "p99 of claims at the end of the hold, to before", is_least=False),
    Bar("held", "recovery_s", 120, "seconds until it is back", is_least=False),
    Bar("idle", "statements_per_s", 1, "statements per second of an idle executor", is_least=False),
    Bar("idle", "cpu_s_per_min", 0.1, "CPU seconds per minute of an idle executor", is_least=False),
    Bar("reference", "seconds", 0.7, "seconds for trees, sequences and loops", is_least=False),
)
_BESIDE: Final = (("graphile", 1.0), ("pgqueuer", 2.5))
"""The drain of the same comparison must be so many times that of these."""
_RATES: Final = {"drain": "rate_per_s", "enqueue": "rate_per_s"}
"""What is compared with peers where the bar is a ratio to our own limit."""


def lines(results: Mapping[str, Mapping[str, Any]], peers: Mapping[str, Mapping[str, Any]]) -> Iterator[Line]:
    """Every bar, and those against peers where a comparison has both."""
    for bar in BARS:
        yield Line(bar, results.get(bar.workload, {}).get(bar.figure), _best(bar, peers))
        if bar.workload == "drain":
            yield from _beside(peers)


def _beside(peers: Mapping[str, Mapping[str, Any]]) -> Iterator[Line]:
    ours = peers.get(OURS, {}).get("drain", {}).get("rate_per_s")
    for beginning, factor in _BESIDE:
        for name in sorted(name for name in peers if name.lower().startswith(beginning)):
            theirs = peers[name].get("drain", {}).get("rate_per_s")
            if ours and theirs:
                bar = Bar("drain", "rate_per_s", factor, f"times the rate of {name}, in one comparison")
                yield Line(bar, ours / theirs, f"{name} {shown(theirs)}")


def _best(bar: Bar, peers: Mapping[str, Mapping[str, Any]]) -> str:
    figure = _RATES.get(bar.workload, bar.figure)
    found = {
        name: workloads[bar.workload][figure]
        for name, workloads in peers.items()
        if name not in (OURS, LIMIT) and figure in workloads.get(bar.workload, {})
    }
    if not found or bar.figure == "clients_hints_ratio":
        return "-"
    name = (max if bar.is_least else min)(found, key=lambda name: found[name])
    return f"{name} {shown(found[name])}"
