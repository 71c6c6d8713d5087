"""The files of the project as tests read them: which there are, their text and their syntax."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["PACKAGES", "ROOT", "functions", "parsed", "python_files", "text_files"]

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = ("durable", "storage_postgres", "pytest_durable")
_OURS: Final = (*PACKAGES, "benchmarks", "docs", "examples", "tests", ".ci")
_UNREADABLE: Final = {".png", ".gif", ".ico"}


@cache
def text_files() -> tuple[Path, ...]:
    """Files that are, or may be, checked in; from the folders of the project alone where this is no checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.splitlines()]
    else:
        found = [path for folder in _OURS for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
        found += [path for path in ROOT.iterdir() if path.suffix in {".md", ".toml"}]
    return tuple(sorted(path for path in found if path.is_file() and path.suffix not in _UNREADABLE))


def python_files(*folders: str) -> list[Path]:
    """Those of the given folders, or all."""
    return [
        path
        for path in text_files()
        if path.suffix == ".py" and (not folders or path.relative_to(ROOT).parts[0] in folders)
    ]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
