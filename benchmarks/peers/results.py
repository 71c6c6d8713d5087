"""What was found so far, the median of it, and who is ahead of whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.common import Figures
from benchmarks.peers.figures import Comparison
from benchmarks.peers.peer import Peer
from benchmarks.peers.plan import Run
from benchmarks.tables import median_of

__all__ = ["Cell", "Lead", "Results"]


@dataclass(slots=True)
class Cell:
    """One workload of one peer."""

    runs: list[Figures] = field(default_factory=list[Figures])
    default_pace: Figures | None = None
    """Of a worker that polls as often as it does by default."""
    failure: str | None = None
    """The last, of a run that came to nothing."""

    @property
    def figures(self) -> Figures | None:
        """The median of each over the runs that came to something; None where there is none."""
        return median_of(self.runs) if self.runs else None


@dataclass(frozen=True, slots=True)
class Lead:
    """A peer that is ahead of ours by one figure."""

    comparison: Comparison
    figure: str
    peer: Peer
    theirs: float
    ours: float

    @property
    def factor(self) -> float:
        """How many times as good theirs is."""
        better, worse = (self.theirs, self.ours) if self.comparison.is_more_better else (self.ours, self.theirs)
        return better / worse if worse else float("inf")


class Results:
    """Of every run of the comparison."""

    def __init__(self, comparisons: Sequence[Comparison], peers: Sequence[Peer]) -> None:
        self.comparisons = comparisons
        self.peers = peers
        self.not_installed: dict[str, str] = {}
        """Why, by the name of the peer."""
        self._cells = {(comparison.name, peer.name): Cell() for comparison in comparisons for peer in peers}

    def cell(self, comparison: Comparison, peer: Peer) -> Cell:
        return self._cells[comparison.name, peer.name]

    def add(self, run: Run, figures: Figures) -> None:
        cell = self.cell(run.comparison, run.peer)
        if run.is_default_pace:
            cell.default_pace = figures
        else:
            cell.runs.append(figures)

    def fail(self, run: Run, reason: str) -> None:
        self.cell(run.comparison, run.peer).failure = reason

    def reason(self, comparison: Comparison, peer: Peer) -> str | None:
        """Why there are no figures; None where there are."""
        cell = self.cell(comparison, peer)
        if cell.runs:
            return None
        if comparison.name in peer.cannot:
            return peer.cannot[comparison.name]
        if peer.name in self.not_installed:
            return f"not installed: {self.not_installed[peer.name]}"
        return "was not run" if cell.failure is None else f"failed: {cell.failure}"

    def leads(self, ours: Peer, others: Sequence[Peer]) -> Iterator[Lead]:
        """Each figure by which one of the others is ahead of ours, as far as both have it."""
        for comparison in self.comparisons:
            own = self.cell(comparison, ours).figures or {}
            for peer in others:
                theirs = self.cell(comparison, peer).figures or {}
                for figure in comparison.main:
                    if figure in own and figure in theirs:
                        lead = Lead(comparison, figure, peer, theirs[figure], own[figure])
                        if lead.factor > 1:
                            yield lead

    def as_object(self) -> dict[str, Any]:
        """All of it for a file: by peer, then by workload."""
        return {peer.name: self._peer_as_object(peer) for peer in self.peers}

    def _peer_as_object(self, peer: Peer) -> dict[str, Any]:
        return {
            "version": peer.version,
            "configuration": peer.configuration,
            "default_pace": peer.default_pace,
            "promises": dict(peer.promises),
            "not_installed": self.not_installed.get(peer.name),
            "workloads": {comparison.name: self._cell_as_object(comparison, peer) for comparison in self.comparisons},
        }

    def _cell_as_object(self, comparison: Comparison, peer: Peer) -> Mapping[str, Any]:
        cell = self.cell(comparison, peer)
        if cell.figures is None:
            return {"reason": self.reason(comparison, peer)}
        found: dict[str, Any] = {**cell.figures, "runs": cell.runs}
        if cell.default_pace is not None:
            found["at_default_pace"] = cell.default_pace
        if cell.failure is not None:
            found["failure"] = cell.failure
        return found
