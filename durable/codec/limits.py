"""How large and how deep a stored value may be."""

from __future__ import annotations

from dataclasses import dataclass

from durable.checks import integer

__all__ = ["Limits"]

_LARGEST_PAYLOAD = 256 * 1024 * 1024 - 1024
"""Postgres refuses text beyond 1 GB and jsonb beyond 256 MB; base64 by a payload codec needs room as well."""

_DEEPEST = 180
"""The JSON reader stops at about 200 levels, and a signature adds some of its own."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes are bytes of JSON as UTF-8, before a payload codec. Raises ConfigurationError for a limit out of bounds."""

    max_payload_bytes: int = 1024 * 1024
    """An input, result, state, step result or signal above this is refused with PayloadTooLarge."""
    warn_payload_bytes: int = 256 * 1024
    """One above this is stored, and a warning is logged that names it and its size."""
    max_error_bytes: int = 16 * 1024
    """A longer error is cut, so that failing always works."""
    max_depth: int = 100
    """How many lists and objects may be nested in each other."""

    def __post_init__(self) -> None:
        integer(self.max_payload_bytes, "limits.max_payload_bytes", 1024, _LARGEST_PAYLOAD)
        integer(self.warn_payload_bytes, "limits.warn_payload_bytes", 1, _LARGEST_PAYLOAD)
        integer(self.max_error_bytes, "limits.max_error_bytes", 1024, _LARGEST_PAYLOAD)
        integer(self.max_depth, "limits.max_depth", 1, _DEEPEST)
