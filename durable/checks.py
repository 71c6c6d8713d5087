"""Refuses option values that are no number or out of bounds, naming the field, the value and the bounds."""

from __future__ import annotations

from durable.errors import ConfigurationError

__all__ = ["integer", "number", "shown"]

_SHOWN_CHARACTERS = 60


def shown(value: object) -> str:
    """Give a short printable form of an option's value; never raises and never holds a control character."""
    try:
        text = ascii(value)
    except Exception:  # user objects may fail in __repr__, and Python refuses to print integers of 4,300 digits
        return f"an unprintable {type(value).__name__}"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def integer(value: object, field: str, minimum: int, maximum: int) -> int:
    """Return `value` if it is a whole number within the bounds (both included); True is not 1."""
    if type(value) is int and minimum <= value <= maximum:
        return value
    raise ConfigurationError(f"{field} is {shown(value)}; give a whole number from {minimum} to {maximum}")


def number(value: object, field: str, minimum: float, maximum: float) -> float:
    """Return `value` as a float if it is a finite number within the bounds (both included); True is not 1.0."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and minimum <= value <= maximum:
        return float(value)
    raise ConfigurationError(f"{field} is {shown(value)}; give a number from {minimum:g} to {maximum:g}")
