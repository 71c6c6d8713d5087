"""Where a body does something in the order of a set, which is another one in every process."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from durable.workflow.trap_list import SET_ORDER
from durable.workflow.trap_scopes import SET, Names, Scope

__all__ = ["SetTrap", "set_traps"]

_IN_ORDER: Final = frozenset({"builtins.enumerate", "builtins.iter", "builtins.list", "builtins.tuple"})
"""What gives the elements of a set in its order."""


class SetTrap(NamedTuple):
    node: ast.expr
    """The set."""
    advice: str


def set_traps(node: ast.AST, scope: Scope, names: Names, context: str, *, is_body: bool) -> Iterator[SetTrap]:
    """Only where the order certainly reaches the context, or is the result: a loop that merely adds up is left alone.

    `context` is the name of the parameter that takes it. `is_body`: what the function returns is the workflow's result.
    """
    match node:
        case ast.For(iter=iterated, body=body):
            places = [iterated] if any(_asks(each, context) for each in body) else []
        case ast.ListComp(elt=element, generators=loops) | ast.GeneratorExp(elt=element, generators=loops):
            places = [loop.iter for loop in loops] if _asks(element, context) else []
        case ast.DictComp(key=key, value=value, generators=loops):
            places = [loop.iter for loop in loops] if _asks(key, context) or _asks(value, context) else []
        case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr="map"), args=[_, items, *_]) if (
            owner == context
        ):
            places = [items, *_listed(node.args)]
        case ast.Call(func=ast.Attribute(value=ast.Name(id=owner)), args=given) if owner == context:
            places = _listed(given)
        case ast.Return(value=ast.expr() as value) if is_body:
            places = _listed([value])
        case _:
            return
    for place in places:
        iterated = _inside(place, scope, names)
        if names.type_of(iterated, scope) == SET:
            yield SetTrap(iterated, f"goes through a set, {SET_ORDER}")


def _listed(given: Sequence[ast.expr]) -> list[ast.expr]:
    """What those of them that are lists, made just there, go through."""
    found: list[ast.expr] = []
    for node in given:
        match node:
            case ast.ListComp(generators=loops):
                found += [loop.iter for loop in loops]
            case ast.Call(func=ast.Name(id="list" | "tuple"), args=[items]):
                found.append(items)
            case _:
                pass
    return found


def _inside(node: ast.expr, scope: Scope, names: Names) -> ast.expr:
    """`list(found)` and `enumerate(found)` have the order of `found`."""
    while isinstance(node, ast.Call) and node.args and names.of(node.func, scope) in _IN_ORDER:
        node = node.args[0]
    return node


def _asks(node: ast.AST, context: str) -> bool:
    """It awaits, or does something with the context."""
    return any(
        isinstance(each, ast.Await) or (isinstance(each, ast.Name) and each.id == context) for each in ast.walk(node)
    )
