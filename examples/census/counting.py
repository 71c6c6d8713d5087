"""What is counted in one source file, and which files of a folder are counted. Plain Python: nothing of durable."""

from __future__ import annotations

import ast
import os
import sysconfig
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

__all__ = ["LIBRARY", "Counts", "count_file", "sources_of"]

LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()
_NOT_OURS = {"site-packages", "dist-packages", "__pycache__"}
_WITH_TESTS = {*_NOT_OURS, "test"}
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Counts:
    files: int = 0
    unparsed: int = 0
    """Files that are not Python of this version, or that cannot be read: only their lines are counted."""
    lines: int = 0
    functions: int = 0
    async_functions: int = 0
    lambdas: int = 0
    classes: int = 0
    imports: int = 0
    comprehensions: int = 0
    docstrings: int = 0

    @classmethod
    def total(cls, many: Iterable[Counts]) -> Counts:
        columns = zip(*(astuple(counts) for counts in many), strict=True)
        return cls(*(sum(column) for column in columns))


def sources_of(folder: Path) -> list[Path]:
    """The Python files below a folder, in order; without installed packages, and without the library's own tests."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        skipped = _WITH_TESTS if Path(place) == LIBRARY else _NOT_OURS
        folders[:] = sorted(name for name in folders if name not in skipped)
        found += [Path(place, name) for name in sorted(names) if name.endswith(".py")]
    return found


def count_file(path: Path) -> Counts:
    """Never raises for what is in a file: test data may be anything."""
    try:
        source = path.read_bytes()
    except OSError:
        return Counts(files=1, unparsed=1)
    lines = len(source.splitlines())
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return Counts(files=1, unparsed=1, lines=lines)
    seen: Counter[type[ast.AST]] = Counter()
    docstrings = 0
    for node in ast.walk(tree):
        seen[type(node)] += 1
        if isinstance(node, _WITH_DOCSTRING) and _has_docstring(node):
            docstrings += 1
    return Counts(
        files=1,
        lines=lines,
        functions=seen[ast.FunctionDef],
        async_functions=seen[ast.AsyncFunctionDef],
        lambdas=seen[ast.Lambda],
        classes=seen[ast.ClassDef],
        imports=seen[ast.Import] + seen[ast.ImportFrom],
        comprehensions=sum(seen[kind] for kind in _COMPREHENSIONS),
        docstrings=docstrings,
    )


def _has_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    match node.body[:1]:
        case [ast.Expr(value=ast.Constant(value=str()))]:
            return True
        case _:
            return False
