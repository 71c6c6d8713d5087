"""Tells whether two histories were written by the same code."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.util import resolve_name
from types import CodeType, ModuleType
from typing import Any

__all__ = ["fingerprint"]


@lru_cache(maxsize=1024)
def fingerprint(function: Callable[..., Any], version: int) -> str:
    """Of a body, of the module in which it stands, and of the modules of its own package that this one imports.

    Only the same fingerprint is proof: under it, a body that goes another way than its history has no excuse.
    """
    target = inspect.unwrap(function)
    module = inspect.getmodule(target)
    texts = [_text(module or target)]
    if module is not None:
        texts += [_text(helper) for helper in _helpers(module, texts[0])]
    code = getattr(target, "__code__", None)
    compiled = repr(target) if code is None else _digest(code)
    known = "\n".join([str(version), target.__qualname__, compiled, *texts])
    return hashlib.sha256(known.encode()).hexdigest()[:16]


def _text(source: Any) -> str:
    try:
        return inspect.getsource(source)
    except (OSError, TypeError):  # made by exec, at a prompt, or compiled
        return ""


def _helpers(module: ModuleType, text: str) -> list[ModuleType]:
    """Of the same top-level package: what the statements of the module itself import, in the order of names.

    Imports within functions and conditions are left out, because whether they have run differs between processes.
    """
    try:
        statements = ast.parse(text).body
    except SyntaxError:
        return []
    top = (module.__package__ or module.__name__).partition(".")[0]
    named = {name for statement in statements for name in _imported(statement, module.__package__ or "")}
    own = sorted(name for name in named if name.partition(".")[0] == top and name != module.__name__)
    return [sys.modules[name] for name in own if name in sys.modules]


def _imported(statement: ast.stmt, package: str) -> Iterator[str]:
    """The names of the modules that a statement may import: what stands behind `from x import` may be one or not."""
    match statement:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            base = resolve_name("." * level + (module or ""), package) if level else module or ""
            yield base
            yield from (f"{base}.{alias.name}" for alias in names)
        case _:
            pass


def _digest(code: CodeType) -> str:
    """What a function does, the functions inside it included; where its source stands does not matter."""
    return f"{code.co_code!r}{[_constant(each) for each in code.co_consts]}{code.co_names}{code.co_freevars}"


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return _digest(value)
    # A set shows its elements in another order in every process.
    return "set" if isinstance(value, frozenset) else repr(value)
