"""Collector: lets Python's garbage collector look for cycles less often while an executor runs.

What an executor holds for a batch, some objects for each execution, outlives the collector's default of 700 (2,000 from
Python 3.13) new objects, so that it walks over all of them again and again without finding anything: a quarter of the
Python time of a drain of 20,000 executions. With 10,000 it is a thirtieth.
"""

from __future__ import annotations

import gc

__all__ = ["Collector"]


class Collector:
    """Raises the threshold of this process and puts it back. One that is higher stays, and 0, which is: off."""

    def __init__(self, threshold: int | None) -> None:
        """`threshold` in new objects; None leaves the collector alone."""
        self._threshold = threshold
        self._before: tuple[int, int, int] | None = None

    def relax(self) -> None:
        before = gc.get_threshold()
        if self._threshold is not None and 0 < before[0] < self._threshold:
            self._before = before
            gc.set_threshold(self._threshold, *before[1:])

    def restore(self) -> None:
        """Does nothing where somebody has set another threshold meanwhile."""
        before, self._before = self._before, None
        if before is not None and gc.get_threshold()[0] == self._threshold:
            gc.set_threshold(*before)
