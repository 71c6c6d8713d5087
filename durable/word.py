"""Words of our own that are stored as text: enums that hash as fast as the text they are."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Word"]


class Word(StrEnum):
    """A StrEnum for tables and sets that every execution is looked up in: the hash of an Enum is a Python function."""

    __hash__ = str.__hash__
