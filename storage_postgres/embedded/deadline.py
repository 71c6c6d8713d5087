"""The time limit of one call, and the pauses inside it."""

from __future__ import annotations

import time

__all__ = ["Deadline"]


class Deadline:
    """A point on the monotonic clock, `seconds` from now."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._at

    def pause(self, seconds: float = 0.01) -> None:
        """Wait for `seconds`, never past the deadline."""
        time.sleep(max(0.0, min(seconds, self._at - time.monotonic())))
