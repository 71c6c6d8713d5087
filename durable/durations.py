"""Turns what users write for a length or a point of time into seconds or an aware datetime, or refuses it.

A length is a number of seconds, a timedelta, or a string of numbers with units in falling order: "250ms", "1.5h",
"1h30m". A string without a unit is refused, because nobody can tell what "30" means.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from durable.checks import shown
from durable.errors import ConfigurationError

__all__ = ["CENTURY_SECONDS", "Duration", "aware", "seconds"]

_HINT: Final = 'give seconds, a timedelta, or a string such as "250ms", "30s", "5m", "1h30m", "2d"'

Duration = str | float | int | timedelta
"""Seconds as a number, a timedelta, or a string with units: d, h, m, s, ms."""

CENTURY_SECONDS: Final = 36_525 * 86_400.0
"""The longest length and the furthest point of time accepted anywhere; Postgres can still add it to any stored time."""

_NUMBER: Final = r"([0-9]+(?:\.[0-9]+)?)"
_LENGTH: Final = re.compile(
    rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?", re.ASCII
)
_UNIT_SECONDS: Final = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_LONGEST_STRING: Final = 100


def seconds(value: Duration, field: str, *, minimum: float = 0.0, maximum: float = CENTURY_SECONDS) -> float:
    """Return the length in seconds.

    Raises ConfigurationError, naming `field` and the bounds, for anything that is not a finite length from `minimum`
    to `maximum`, both included. True is not one second.
    """
    length = _length(value)
    if length is None:
        raise ConfigurationError(f"{field} is {shown(value)}; {_HINT}")
    if not minimum <= length <= maximum:  # NaN fails every comparison, so it ends here too
        raise ConfigurationError(f"{field} is {shown(value)}; it must be from {minimum:g} to {maximum:g} seconds")
    return length


def aware(value: datetime, field: str) -> datetime:
    """Return the point of time in UTC.

    A point in the past is accepted. Raises ConfigurationError, naming `field`, for anything that is not a datetime
    with a time zone, and for one more than a century ahead of this machine's clock.
    """
    given: object = value
    if not isinstance(given, datetime):
        raise ConfigurationError(f"{field} is {shown(given)}; give a datetime with a time zone")
    if given.utcoffset() is None:
        raise ConfigurationError(f"{field} is {shown(given)}, which has no time zone; add tzinfo, such as datetime.UTC")
    if (given - datetime.now(UTC)).total_seconds() > CENTURY_SECONDS:
        raise ConfigurationError(f"{field} is {given.isoformat()}; it must be less than 100 years ahead")
    try:
        return given.astimezone(UTC)
    except OverflowError:
        raise ConfigurationError(f"{field} is {given.isoformat()}, which is before the year 1 in UTC") from None


def _length(value: object) -> float | None:
    """Give the length in seconds, unchecked against any bounds, or None if it is no length at all."""
    match value:
        case bool():
            return None
        case int() | float():
            return _as_float(value)
        case timedelta():
            return value.total_seconds()
        case str():
            return _parsed(value)
        case _:
            return None


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond the floats: out of bounds, whatever the bounds are
        return float("inf") if value > 0 else float("-inf")


def _parsed(text: str) -> float | None:
    # The empty string matches too, and a length of digits is worth no time: both are refused before the match.
    if not 0 < len(text) <= _LONGEST_STRING:
        return None
    found = _LENGTH.fullmatch(text)
    if found is None:
        return None
    parts = zip(found.groups(), _UNIT_SECONDS, strict=True)
    return sum(float(amount) * unit for amount, unit in parts if amount is not None)
