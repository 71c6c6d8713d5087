"""What JSON in Postgres cannot hold, and where in a value it stands."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final, cast

from pydantic import BaseModel

from durable.checks import shown

__all__ = [
    "MOST_DIGITS",
    "Refused",
    "TooDeep",
    "check_json",
    "check_key",
    "check_number_key",
    "children",
    "find_unstorable",
    "has_long_number",
    "has_nul",
    "json_depth",
    "step",
]

_LONGEST_NAME: Final = 60
_LONGEST_PATH: Final = 400
MOST_DIGITS: Final = 4_300
"""Python neither prints nor reads integers of more digits."""
_FIRST_GIANT: Final = 10**MOST_DIGITS

_LONG_NUMBER: Final = b"0" * (MOST_DIGITS + 1)
_DIGITS_TO_ZERO: Final = bytes.maketrans(b"123456789", b"000000000")
# Pairs of backslashes stand for backslashes; only one that is left over makes u0000 the escape of NUL.
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_ROUND_TO_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_ALL_BUT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))

_PLAIN: Final = frozenset((str, int, bool, type(None)))
_WITHOUT_ANNOTATION: Final = "without an annotation only str, int, float, bool, None, list and dict can be stored"


class Refused(Exception):
    """A place inside a value breaks a rule; collects its path on the way up."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self._steps: list[str] = []

    def inside(self, part: str) -> Refused:
        self._steps.append(part)
        return self

    def path(self, root: str) -> str:
        whole = root + "".join(reversed(self._steps))
        return whole if len(whole) <= _LONGEST_PATH else f"{whole[: _LONGEST_PATH // 2]}…{whole[-_LONGEST_PATH // 2 :]}"


class TooDeep(Refused):
    """Lists and objects are nested beyond the limit."""

    def __init__(self) -> None:
        super().__init__("is nested too deep")


def step(key: object) -> str:
    """Give the path's part for an attribute, a key or an index."""
    if isinstance(key, str) and key.isidentifier() and len(key) <= _LONGEST_NAME:
        return f".{key}"
    return f"[{shown(key)}]"


def check_json(value: object, room: int) -> None:
    """Raise Refused unless `value` is made of what JSON gives back as it was: the rule where nothing is annotated.

    `room` is how many levels may still be nested. Tuples pass, and come back as lists; subclasses of the plain types
    pass, and come back as the plain type.
    """
    kind = type(value)
    if kind in _PLAIN:
        return
    if isinstance(value, dict):
        _check_object(cast("dict[object, object]", value), room)
    elif isinstance(value, (list, tuple)):
        _check_array(cast("list[object] | tuple[object, ...]", value), room)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise Refused(_not_finite(value))
    elif not isinstance(value, (str, int)):
        raise Refused(_unsupported(value))


def _check_object(value: dict[object, object], room: int) -> None:
    if room == 0:
        raise TooDeep
    for key, item in value.items():
        if not isinstance(key, str):
            raise Refused(_key_type(key))
        if type(item) not in _PLAIN:
            try:
                check_json(item, room - 1)
            except Refused as refused:
                raise refused.inside(step(key)) from None


def _check_array(value: list[object] | tuple[object, ...], room: int) -> None:
    if room == 0:
        raise TooDeep
    for index, item in enumerate(value):
        if type(item) not in _PLAIN:
            try:
                check_json(item, room - 1)
            except Refused as refused:
                raise refused.inside(f"[{index}]") from None


def _not_finite(value: float | Decimal) -> str:
    name = "NaN" if value != value else "infinite"
    return f"is {name}, which JSON in Postgres cannot hold; use None or a string"


def _key_type(key: object) -> str:
    name = type(key).__name__
    return (
        f"has a key of type {name}, which would come back as text; use str keys, or annotate dict[int, …] or the like"
    )


def _unsupported(value: object) -> str:
    name = type(value).__name__
    if inspect.isawaitable(value):
        return f"is a {name}, which cannot be stored; await it first"
    return f"is of type {name}, which cannot be stored here; {_WITHOUT_ANNOTATION}"


def check_key(key: object) -> None:
    """Raise Refused for a dict key that JSON, whose keys are strings, would merge or change."""
    if not isinstance(key, str):
        raise Refused(_key_type(key))


def check_number_key(key: object) -> None:
    """Raise Refused for a key that is NaN or infinite."""
    if isinstance(key, (float, Decimal)) and not math.isfinite(key):
        raise Refused("has a key that is NaN or infinite")


def find_unstorable(value: object, room: int, within: tuple[int, ...] = ()) -> None:
    """Raise Refused for the first NaN, NUL, lone surrogate, giant integer or loop inside any value.

    Slow and thorough: it is called only when something in the written text, or the failure to write one, says that
    there is such a place. `within` holds the ids of the containers around `value`.
    """
    if isinstance(value, str):
        _refuse_text(value, "contains")
    elif isinstance(value, (float, Decimal)):
        if not math.isfinite(value):
            raise Refused(_not_finite(value))
    elif isinstance(value, int):
        if abs(value) >= _FIRST_GIANT:
            raise Refused(f"is an integer of more than {MOST_DIGITS} digits; store it as a string")
    else:
        _find_inside(value, room, within)


def _find_inside(value: object, room: int, within: tuple[int, ...]) -> None:
    if id(value) in within:
        raise Refused("contains itself; JSON cannot hold a loop")
    for key, item in children(value):
        if room == 0:
            raise TooDeep
        if isinstance(key, str):
            _refuse_text(key, "has a key that contains")
        elif isinstance(key, int) and abs(key) >= _FIRST_GIANT:
            raise Refused(f"has an integer of more than {MOST_DIGITS} digits as a key")
        try:
            find_unstorable(item, room - 1, (*within, id(value)))
        except Refused as refused:
            raise refused.inside(step(key)) from None


def _refuse_text(text: str, verb: str) -> None:
    if "\0" in text:
        raise Refused(f"{verb} NUL (U+0000), which Postgres cannot hold; remove it, or pass bytes")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refused(f"{verb} a lone surrogate, which UTF-8 cannot hold; remove it, or pass bytes") from None


def children(value: object) -> Iterator[tuple[object, object]]:
    """Give what a container of any usual kind holds, with the names that its JSON has: keys, fields or indexes."""
    if isinstance(value, dict):
        yield from cast("dict[object, object]", value).items()
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        yield from enumerate(cast("list[object]", value))
    elif isinstance(value, BaseModel):
        yield from vars(value).items()
        yield from (value.__pydantic_extra__ or {}).items()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield field.name, cast("Any", getattr(value, field.name, None))


def has_nul(text: bytes) -> bool:
    """Say whether JSON text holds the escape of NUL; the six characters as a user's own text do not count."""
    return b"\\u0000" in text and _NUL.search(text) is not None


def has_long_number(text: bytes) -> bool:
    """Say whether JSON text may hold an integer that Python refuses to read; digits in a string count too."""
    return _LONG_NUMBER in text.translate(_DIGITS_TO_ZERO)


def json_depth(text: bytes, enough: int) -> int:
    """Give how deep lists and objects are nested in JSON text; counting stops above `enough`."""
    if text.count(b"[") + text.count(b"{") <= enough:
        return 0
    rest = _STRING.sub(b"", text).translate(_ROUND_TO_SQUARE, _ALL_BUT_BRACKETS)
    depth = 0
    while rest and depth <= enough:  # each pass takes the innermost level away
        rest = rest.replace(b"[]", b"")
        depth += 1
    return depth
