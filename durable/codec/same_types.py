"""Compares a value with what was read back from its JSON: the same types at every place, or the place that changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from durable.codec.rules import Refused, children, step

__all__ = ["find_changed_type"]

_ARRAYS = (list, tuple)
_SETS = (set, frozenset)


def find_changed_type(value: object, loaded: object) -> None:
    """Raise Refused for the first place where the two differ in type; the values themselves are not compared.

    Lists and tuples count as the same, as do kinds of dicts and kinds of sets: there pydantic may give another one
    than it got for an annotation such as Sequence. Subclasses count as what they derive from.
    """
    if not _is_alike(value, loaded):
        raise Refused(
            f"is of type {type(value).__name__}, but comes back from JSON as {type(loaded).__name__}: "
            "the members of a union look alike there; use one type, or a discriminated union"
        )
    if isinstance(value, _SETS):  # their order is no guide to what belongs to what
        return
    others = dict(children(loaded))
    for key, item in children(value):
        if key in others:
            try:
                find_changed_type(item, others[key])
            except Refused as refused:
                raise refused.inside(step(key)) from None


def _is_alike(value: object, loaded: object) -> bool:
    if type(value) is type(loaded):
        return True
    for family in (_ARRAYS, _SETS, Mapping):
        if isinstance(value, family) and isinstance(loaded, family):
            return True
    return isinstance(value, type(loaded)) and not isinstance(loaded, (date, int))
