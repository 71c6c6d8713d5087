"""Where a body asks for the hash of a text, which is another one in every process."""

from __future__ import annotations

import ast
from typing import Final

from durable.workflow.trap_scopes import Names, Scope

__all__ = ["HASH", "has_text"]

HASH: Final = "builtins.hash"
_TEXTS: Final = frozenset({"builtins.bytes", "builtins.str"})
_MAKERS: Final = _TEXTS | {"builtins.ascii", "builtins.format", "builtins.repr"}


def has_text(node: ast.expr, scope: Scope, names: Names) -> bool:
    """It certainly is a text or bytes, or a tuple of which some part is; numbers have the same hash everywhere."""
    match node:
        case ast.Constant(value=str() | bytes()) | ast.JoinedStr():
            return True
        case ast.Tuple(elts=parts):
            return any(has_text(part, scope, names) for part in parts)
        case ast.Call(func=func):
            return names.of(func, scope) in _MAKERS
        case ast.Name(id=name):
            home = scope.home(name)
            if home is None:
                return isinstance(names.value(name), str | bytes)
            annotation = home.annotations.get(name)
            return home.stored[name] == 1 and annotation is not None and names.of(annotation, home) in _TEXTS
        case _:
            return False
