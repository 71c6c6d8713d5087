"""The names that users give inside a workflow: of signals, published values, steps and approvals."""

from __future__ import annotations

from typing import Any, Final

from durable.errors import ConfigurationError
from durable.options import checked_text

__all__ = ["checked_name"]

_LONGEST_NAME: Final = 200


def checked_name(name: Any, field: str) -> str:
    """Raises ConfigurationError. A `#` counts occurrences in the keys of a history, and begins names of our own."""
    checked = checked_text(name, field, most=_LONGEST_NAME)
    if "#" in checked:
        raise ConfigurationError(f"{field} is {checked[:50]!r}; give 1 to {_LONGEST_NAME} characters without '#'")
    return checked
