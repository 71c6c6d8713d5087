"""Tells whether two histories were written by the same code."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from functools import lru_cache
from types import CodeType
from typing import Any

__all__ = ["fingerprint"]


@lru_cache(maxsize=1024)
def fingerprint(function: Callable[..., Any], version: int) -> str:
    """Of a body, and of the module in which it stands, because its helpers mostly do so as well.

    Only the same fingerprint is proof: under it, a body that goes another way than its history has no excuse.
    """
    target = inspect.unwrap(function)
    try:
        text = inspect.getsource(inspect.getmodule(target) or target)
    except (OSError, TypeError):
        text = ""
    code = getattr(target, "__code__", None)
    compiled = repr(target) if code is None else _digest(code)
    return hashlib.sha256(f"{version}\n{target.__qualname__}\n{compiled}\n{text}".encode()).hexdigest()[:16]


def _digest(code: CodeType) -> str:
    """What a function does, the functions inside it included; where its source stands does not matter."""
    return f"{code.co_code!r}{[_constant(each) for each in code.co_consts]}{code.co_names}{code.co_freevars}"


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return _digest(value)
    # A set shows its elements in another order in every process.
    return "set" if isinstance(value, frozenset) else repr(value)
