"""Turns what users write for a length or a point of time into seconds or an aware datetime, or refuses it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from durable.checks import shown
from durable.errors import ConfigurationError
from durable.lengths import CENTURY_SECONDS, UNITS, Duration, length_of

__all__ = ["CENTURY_SECONDS", "Duration", "aware", "seconds"]

_HINT: Final = 'give seconds, a timedelta or a string such as "250ms", "30s", "1h30m" or "2d"'


def seconds(value: Duration, field: str, *, minimum: float = 0.0, maximum: float = CENTURY_SECONDS) -> float:
    """Return the length in seconds.

    Raises ConfigurationError, naming `field` and the bounds, for anything that is not a finite length from `minimum`
    to `maximum`, both included. True is not one second.
    """
    length = length_of(value)
    if length is None or not minimum <= length <= maximum:  # NaN fails every comparison, so it is refused as well
        raise ConfigurationError(f"{field} is {shown(value)}; {_HINT}, from {_words(minimum)} to {_words(maximum)}")
    return length


def aware(value: object, field: str) -> datetime:
    """Return the point of time in UTC.

    A point in the past is accepted. Raises ConfigurationError, naming `field`, for anything that is not a datetime
    with a time zone, and for one more than a century ahead of this machine's clock.
    """
    if not isinstance(value, datetime):
        raise ConfigurationError(f"{field} is {shown(value)}; give a datetime with a time zone")
    if value.utcoffset() is None:
        raise ConfigurationError(f"{field} is {shown(value)}, which has no time zone; add tzinfo, such as datetime.UTC")
    if (value - datetime.now(UTC)).total_seconds() > CENTURY_SECONDS:
        raise ConfigurationError(f"{field} is {value.isoformat()}; it must be less than 100 years ahead")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ConfigurationError(f"{field} is {value.isoformat()}, which is before the year 1 in UTC") from None


def _words(length: float) -> str:
    """Give a bound in the largest unit that has no fraction, as users write it."""
    for name, unit in UNITS:
        if length >= unit and length % unit == 0:
            return f"{length / unit:g}{name}"
    return f"{length:g}s"
