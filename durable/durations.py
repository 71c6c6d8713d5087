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

_HINT: Final = 'give seconds, a timedelta or a string such as "250ms", "30s", "1h30m" or "2d"'

Duration = str | float | int | timedelta
"""Seconds as a number, a timedelta, or a string with units: d, h, m, s, ms."""

CENTURY_SECONDS: Final = 36_525 * 86_400.0
"""The longest length and the furthest point of time accepted anywhere; Postgres can still add it to any stored time."""

_NUMBER: Final = r"([0-9]+(?:\.[0-9]+)?)"
_LENGTH: Final = re.compile(rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?", re.ASCII)
_UNITS: Final = (("d", 86_400.0), ("h", 3_600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001))
_LONGEST_STRING: Final = 100


def seconds(value: Duration, field: str, *, minimum: float = 0.0, maximum: float = CENTURY_SECONDS) -> float:
    """Return the length in seconds.

    Raises ConfigurationError, naming `field` and the bounds, for anything that is not a finite length from `minimum`
    to `maximum`, both included. True is not one second.
    """
    length = _length(value)
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
    # The pattern also matches the empty string; and nobody writes a duration of a thousand digits.
    if not 0 < len(text) <= _LONGEST_STRING:
        return None
    found = _LENGTH.fullmatch(text)
    if found is None:
        return None
    parts = zip(found.groups(), _UNITS, strict=True)
    return sum((float(amount) * unit for amount, (_, unit) in parts if amount is not None), 0.0)


def _words(length: float) -> str:
    """Give a bound in the largest unit that has no fraction, as users write it."""
    for name, unit in _UNITS:
        if length >= unit and length % unit == 0:
            return f"{length / unit:g}{name}"
    return f"{length:g}s"
