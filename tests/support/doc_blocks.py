"""The Python in a page of documentation, made into modules that a type checker can read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from inspect import CO_COROUTINE

from tests.support.sources import ROOT

__all__ = ["blocks_of", "module_of"]


def blocks_of(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def module_of(block: str, *granted: str) -> str:
    """The block, with what it takes for granted: of several statements that define a name, the last alone.

    A block that makes an app of its own takes nothing for granted. What awaits outside of a function goes into one.
    """
    shown = _parsed(block)
    own = {name for node in shown for name in _defined(node)}
    given: list[ast.stmt] = []
    for node in reversed([] if "app" in own else [node for text in granted for node in _parsed(text)]):
        if not own & set(_defined(node)):
            given.insert(0, node)
            own |= set(_defined(node))
    imports = [node for node in (*given, *shown) if isinstance(node, ast.Import | ast.ImportFrom)]
    rest = [node for node in (*given, *shown) if node not in imports]
    first = next((place for place, node in enumerate(rest) if _awaits(node)), len(rest))
    lines = [ast.unparse(node) for node in (*imports, *rest[:first])]
    inside = "\n".join(ast.unparse(node) for node in rest[first:])
    if inside:
        lines.append("async def shown() -> None:\n" + re.sub("^", "    ", inside, flags=re.MULTILINE))
    return "\n".join(["from __future__ import annotations", *lines, ""])


def _parsed(text: str) -> list[ast.stmt]:
    tree = compile(text, "documentation", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    assert isinstance(tree, ast.Module)
    return tree.body


def _defined(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from (alias.asname or alias.name for alias in names)
        case _:
            for each in ast.walk(node):
                if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
                    yield each.id


def _awaits(node: ast.stmt) -> bool:
    module = ast.Module([node], [])
    code = compile(module, "documentation", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return bool(code.co_flags & CO_COROUTINE)
