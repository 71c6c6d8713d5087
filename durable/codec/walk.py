"""Builds the functions that walk to those places inside a value which need a check, and name the place they refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from durable.codec.rules import Refused, step

__all__ = ["Check", "check_all", "check_attributes", "check_items", "check_keyed", "check_mapping", "check_nothing"]

Check = Callable[[Any], None]
"""Raises rules.Refused for a value that must not be stored.

A check made here passes over a value of another shape than its own: that one belongs to another member of a union.
"""


def check_nothing(value: object) -> None:
    """Accept everything."""


def check_all(checks: list[Check]) -> Check:
    """Apply each check to the value itself."""

    def check(value: Any) -> None:
        for one in checks:
            one(value)

    return check


def check_items(checks: list[Check], repeated: int | None) -> Check:
    """Check each item of a list, tuple or set by its place; the check at `repeated` holds for all from there on."""

    def check(value: Any) -> None:
        if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__len__"):
            return
        if repeated is None and len(value) != len(checks):
            return
        for index, item in enumerate(value):
            try:
                checks[index if repeated is None else min(index, repeated)](item)
            except Refused as refused:
                raise refused.inside(f"[{index}]") from None

    return check


def check_mapping(check_of_keys: Check | None, check_of_values: Check | None) -> Check:
    """Check the keys and the values of a dict of one kind."""

    def check(value: Any) -> None:
        if not isinstance(value, Mapping):
            return
        for key, item in cast("Mapping[object, object]", value).items():
            if check_of_keys is not None:
                check_of_keys(key)
            if check_of_values is not None:
                _inside(key, item, check_of_values)

    return check


def check_keyed(checks: dict[str, Check], extras: Check | None) -> Check:
    """Check the values of a TypedDict by key; `extras` is for keys that nobody declared."""

    def check(value: Any) -> None:
        if not isinstance(value, Mapping):
            return
        for key, item in cast("Mapping[str, object]", value).items():
            one = checks.get(key, extras)
            if one is not None:
                _inside(key, item, one)

    return check


def check_attributes(cls: type[Any], checks: dict[str, Check], extras: Check | None) -> Check:
    """Check the fields of a model, dataclass or NamedTuple; `extras` is for fields that nobody declared."""

    def check(value: Any) -> None:
        if not isinstance(value, cls):
            return
        for name, one in checks.items():
            _inside(name, getattr(value, name, None), one)
        if extras is not None:
            undeclared: dict[str, Any] = getattr(value, "__pydantic_extra__", None) or {}
            for name, item in undeclared.items():
                _inside(name, item, extras)

    return check


def _inside(key: object, item: object, check: Check) -> None:
    try:
        check(item)
    except Refused as refused:
        raise refused.inside(step(key)) from None
