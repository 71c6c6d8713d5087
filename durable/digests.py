"""Digests of arguments: the same in every process for the same data, cheap for little of it, and never an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

__all__ = ["digest"]

_DEEPEST: Final = 50
_BY_TEXT: Final = (UUID, Decimal, Fraction, PurePath, timedelta, IPv4Address, IPv6Address)
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})


def digest(args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> str:
    """16 hexadecimal digits; empty where there are no arguments.

    Data counts by value: numbers, texts, bytes, times, enums, lists, dicts in any order of their keys, sets,
    dataclasses and pydantic models. Of anything else the name of its type counts, because nothing of it is known to be
    the same in another process.
    """
    if not args and not kwargs:
        return ""
    given = [args, kwargs] if kwargs else args
    try:
        text = _of_plain(args) if not kwargs else _ENCODER.encode(given)
    except Exception:  # keys that JSON has not, cycles, and whatever a user's own attributes raise
        text = _FALLBACK.encode(_plain(given, frozenset()))
    # Text of JSON is ASCII here, lone surrogates included.
    return blake2b(text.encode("ascii"), digest_size=8).hexdigest()


def _of_plain(args: tuple[Any, ...]) -> str:
    """What the encoder gives, without making one, where each is of a plain type."""
    try:
        return f"[{','.join([_WRITERS[type(each)](each) for each in args])}]"
    except KeyError:
        return _ENCODER.encode(args)


def _parts(value: Any) -> Any:
    """What stands for a value that JSON does not know."""
    if isinstance(value, BaseModel):
        return _of_model(value)
    if isinstance(value, Enum):
        return ["enum", value.value]
    if isinstance(value, (datetime, date, time)):
        return ["time", value.isoformat()]
    if isinstance(value, _BY_TEXT):
        return ["text", str(value)]
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", blake2b(value, digest_size=8).hexdigest()]
    if is_dataclass(value) and not isinstance(value, type):
        return _of_dataclass(value)
    return ["type", type(value).__qualname__]


def _kind(value: object) -> type[Any]:
    return type(value)


def _encoded(value: Any) -> Any:
    """For the encoder in C, which looks into what this gives by itself."""
    kind = _kind(value)
    return _sorted(value, _ENCODER.encode) if issubclass(kind, (set, frozenset)) else _parts(value)


def _sorted(values: Iterable[Any], encode: Callable[[Any], str]) -> list[Any]:
    return ["set", sorted(encode(each) for each in values)]


def _of_model(value: BaseModel) -> dict[str, Any]:
    extra = value.__pydantic_extra__ or {}
    return extra | {
        name: part
        for name, known in type(value).model_fields.items()
        if not _is_default(part := getattr(value, name), known.default, known.default_factory)
    }


def _of_dataclass(value: Any) -> dict[str, Any]:
    return {
        field.name: part
        for field in fields(value)
        if field.compare
        and not _is_default(part := getattr(value, field.name, None), field.default, field.default_factory)
    }


def _is_default(part: Any, default: Any, factory: Any) -> bool:
    """A field that somebody adds to a class, with a default, leaves what was stored before it as it was."""
    if default is not MISSING and default is not PydanticUndefined:
        return part is default or (type(part) in _PLAIN and type(part) is type(default) and part == default)
    return factory is not None and factory is not MISSING and isinstance(part, (list, dict, set, tuple)) and not part


def _plain(value: Any, above: frozenset[int]) -> Any:
    """As the encoder sees it, for data that it refuses: each part by itself, and no part can spoil the others."""
    kind = _kind(value)
    if kind in _PLAIN:
        return value if kind is not int else _of_int(value)
    if len(above) > _DEEPEST or id(value) in above:
        return ["type", kind.__qualname__]
    above |= {id(value)}
    try:
        if issubclass(kind, dict):
            pairs = [[_plain(key, above), _plain(part, above)] for key, part in value.items()]
            return ["dict", sorted(map(_FALLBACK.encode, pairs))]
        if issubclass(kind, (list, tuple)):
            return [_plain(each, above) for each in value]
        if issubclass(kind, (set, frozenset)):
            return _sorted(value, lambda each: _FALLBACK.encode(_plain(each, above)))
        if issubclass(kind, (str, int, float)):
            return _parts(value) if issubclass(kind, Enum) else str(value)
        return _plain(_parts(value), above)
    except Exception:
        return ["type", kind.__qualname__]


def _of_int(value: int) -> Any:
    """One of many digits has no text."""
    return value if abs(value) < 1 << 4096 else ["int", hex(value)]


_WRITERS: Final[dict[type[Any], Callable[[Any], str]]] = {
    str: json.encoder.encode_basestring_ascii,
    int: int.__repr__,
    bool: {True: "true", False: "false"}.__getitem__,
    type(None): {None: "null"}.__getitem__,
}
_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_encoded)
_FALLBACK: Final = json.JSONEncoder(separators=(",", ":"))
