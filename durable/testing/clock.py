"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from durable.durations import Duration, aware, seconds

__all__ = ["VirtualClock"]


class VirtualClock:
    """Gives the same aware time until it is moved; starts at `at`, or at a fixed moment so that runs are alike."""

    def __init__(self, at: datetime | None = None) -> None:
        self._at = datetime(2030, 1, 1, tzinfo=UTC) if at is None else aware(at, "at")

    def now(self) -> datetime:
        return self._at

    def advance(self, duration: Duration) -> datetime:
        """Move on by a duration; gives the new time. Never backwards: ConfigurationError."""
        self._at += timedelta(seconds=seconds(duration, "duration"))
        return self._at

    def move_to(self, at: datetime) -> datetime:
        """Stand at that moment, earlier or later; gives it. Raises ConfigurationError for a naive time."""
        self._at = aware(at, "at")
        return self._at
