"""Onward: lets claims go on where the last one ended while it has become slow to look at a queue from its beginning.

What was claimed leaves dead entries at the beginning of the queue's index. While somebody holds a snapshot they cannot
be cleaned up, and each claim would read all of them again: after a minute of load that is most of what the server does.
What becomes ready before the place of the last claim (committed late, or given back) is found by the next whole look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from durable.clock import Clock
from durable.execution import Claimed, QueueLevel

__all__ = ["Onward"]

_SLOW = 0.05
"""Seconds of a whole look from which on claims go onward."""
_SHARE = 20
"""A whole look is made when so many times its duration has passed: it may take a twentieth of the time."""


class Onward:
    """Knows the last execution claimed of each lane since the last whole look."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._after: dict[QueueLevel, str] = {}
        self._whole_took = 0.0
        self._whole_at = float("-inf")

    def after(self) -> Mapping[QueueLevel, str]:
        """What the next claim looks behind; empty where it is to look at all."""
        if self._clock.monotonic() - self._whole_at >= self._whole_took * _SHARE:
            self._after = {}
        return self._after

    def note(self, claimed: Sequence[Claimed], *, limit: int, is_whole: bool, took: float) -> None:
        """Hear of a claim's answer, in its order. One that was not full found all there is."""
        if is_whole:
            self._whole_took, self._whole_at = took, self._clock.monotonic()
        if len(claimed) < limit or self._whole_took < _SLOW:
            self._after = {}
        else:
            self._after = {**self._after, **{(turn.queue, turn.priority): turn.id for turn in claimed}}
