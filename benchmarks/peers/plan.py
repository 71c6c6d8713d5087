"""In which order everything is run: in turns, so that what the machine does meanwhile strikes all alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.peers.figures import Comparison
from benchmarks.peers.peer import Peer

__all__ = ["Run", "plan"]


@dataclass(frozen=True, slots=True)
class Run:
    """One program, one workload, once."""

    comparison: Comparison
    peer: Peer
    count: int
    number: int
    """Which repetition, from 1."""
    is_default_pace: bool = False


def plan(
    comparisons: Sequence[Comparison], peers: Sequence[Peer], *, repeat: int, count: int | None = None
) -> Iterator[Run]:
    """Each workload by all peers in turn, `repeat` times, another peer first each time.

    `count` None means each workload's own.
    """
    for comparison in comparisons:
        able = [peer for peer in peers if comparison.name not in peer.cannot]
        for number in range(1, repeat + 1):
            first = (number - 1) % max(len(able), 1)
            for peer in able[first:] + able[:first]:
                yield Run(comparison, peer, _size(comparison, comparison.count, count), number)
        if comparison.paced_count is not None:
            # Once: it shows the pause between two polls, which does not vary.
            for peer in able:
                if peer.default_pace is not None:
                    yield Run(comparison, peer, _size(comparison, comparison.paced_count, count), 1, True)


def _size(comparison: Comparison, own: int, asked: int | None) -> int:
    if asked is None:
        return own
    return min(own, asked) if comparison.is_timed else asked
