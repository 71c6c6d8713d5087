"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["VirtualClock"]


class VirtualClock:
    """Gives the same aware time until `advance`; starts at `at`, or at a fixed moment so that runs are alike."""

    def __init__(self, at: datetime | None = None) -> None:
        if at is not None and at.tzinfo is None:
            raise ValueError("a clock needs an aware datetime; give it a tzinfo")
        self._at = at or datetime(2030, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self._at

    def advance(self, duration: timedelta | float) -> datetime:
        """Move on by a duration, or by that many seconds; gives the new time. Never backwards: ValueError."""
        step = duration if isinstance(duration, timedelta) else timedelta(seconds=duration)
        if step < timedelta():
            raise ValueError(f"a clock goes forwards only, not by {step}")
        self._at += step
        return self._at
