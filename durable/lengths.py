"""What users write for a length of time, as seconds.

A length is a number of seconds, a timedelta, or a string of numbers with units in falling order: "250ms", "1.5h",
"1h30m". A string without a unit is none, because nobody can tell what "30" means.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

__all__ = ["CENTURY_SECONDS", "UNITS", "Duration", "length_of"]

Duration = str | float | int | timedelta
"""Seconds as a number, a timedelta, or a string with units: d, h, m, s, ms."""

CENTURY_SECONDS: Final = 36_525 * 86_400.0
"""The longest length and the furthest point of time accepted anywhere; Postgres can still add it to any stored time."""

_NUMBER: Final = r"([0-9]+(?:\.[0-9]+)?)"
_LENGTH: Final = re.compile(rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?", re.ASCII)
UNITS: Final = (("d", 86_400.0), ("h", 3_600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001))
_LONGEST_STRING: Final = 100


def length_of(value: object) -> float | None:
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
    parts = zip(found.groups(), UNITS, strict=True)
    return sum((float(amount) * unit for amount, (_, unit) in parts if amount is not None), 0.0)
