"""Whether a function takes the context of a workflow, and takes it alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

__all__ = ["takes_context", "takes_context_alone"]

_CONTEXT: Final = "WorkflowContext"
_NAMED: Final = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)


def takes_context(function: Callable[..., Any]) -> bool:
    """True when there is a first parameter that does not say that it is something else."""
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind in _NAMED:
        return False
    annotation: Any = parameters[0].annotation
    if isinstance(annotation, str):
        # By the name that it has there; one that only type checkers import is known by its own.
        annotation = getattr(inspect.unwrap(function), "__globals__", {}).get(annotation, annotation)
    if isinstance(annotation, str):
        return annotation.strip("\"' ").rsplit(".", 1)[-1] == _CONTEXT
    is_open = annotation is inspect.Parameter.empty or annotation is Any
    return is_open or getattr(annotation, "__name__", None) == _CONTEXT


def takes_context_alone(function: Callable[..., Any]) -> bool:
    """It can be called with a context and nothing else."""
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    return takes_context(function)
