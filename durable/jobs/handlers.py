"""Refuse, where it is declared, a function that could not be called as a handler or a reducer."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from durable.errors import ConfigurationError

__all__ = ["checked_handler", "checked_reducer"]


def checked_handler(function: Any, what: str, *parameters: str) -> Callable[..., Any]:
    """The function, if it takes these by position; raises ConfigurationError."""
    if not callable(function) or inspect.isclass(function) or isinstance(function, staticmethod | classmethod):
        raise ConfigurationError(f"{what} is made from a function, not from {_named(function)}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        # Calling one runs nothing of it, so a turn would be accepted without having done anything.
        raise ConfigurationError(f"{what} cannot be a generator")
    try:
        inspect.signature(function).bind(*parameters)
    except TypeError as error:
        raise ConfigurationError(f"{what} is called with ({', '.join(parameters)}): {error}") from None
    except ValueError:
        pass  # a builtin without a signature
    return function  # type: ignore[no-any-return]


def checked_reducer(function: Any) -> Callable[[Any, Any], Any]:
    checked = checked_handler(function, "reducer", "state", "event")
    if inspect.iscoroutinefunction(checked):
        raise ConfigurationError("reducer is async; it must be a plain function, and quick: what waits is the handler")
    return checked


def _named(value: Any) -> str:
    return f"the class {value.__name__}" if inspect.isclass(value) else f"a {type(value).__name__}"
