"""Warn of what a body should not do itself, where it is declared: ask for the time, draw numbers, wait, or do I/O."""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from durable.errors import WorkflowTrapWarning

__all__ = ["Trap", "traps_in", "warn_of_traps"]

ALLOWED: Final = "durable: ok"
"""A comment with this, on the line of a call, says that it is meant."""

_TIME: Final = "use ctx.now()"
_WAIT: Final = "use await ctx.sleep(…)"
_NUMBERS: Final = "use ctx.random"
_STEP: Final = "call it in a step: await ctx.step(…)"
_WORK: Final = "start work with ctx.step, ctx.child or asyncio.create_task"
_CALLS: Final[Mapping[str, str]] = {
    "asyncio.run": _WORK,
    "asyncio.to_thread": _STEP,
    "datetime.date.today": _TIME,
    "datetime.datetime.now": _TIME,
    "datetime.datetime.today": _TIME,
    "datetime.datetime.utcnow": _TIME,
    "io.open": _STEP,
    "_io.open": _STEP,
    "builtins.input": _STEP,
    "os.getenv": _STEP,
    "os.system": _STEP,
    "os.urandom": _NUMBERS,
    "time.monotonic": _TIME,
    "time.perf_counter": _TIME,
    "time.sleep": _WAIT,
    "time.time": _TIME,
    "time.time_ns": _TIME,
    "uuid.uuid1": "use ctx.uuid()",
    "uuid.uuid4": "use ctx.uuid()",
}
_MODULES: Final[Mapping[str, str]] = {
    "aiohttp": _STEP,
    "httpx": _STEP,
    "multiprocessing": _WORK,
    "random": _NUMBERS,
    "requests": _STEP,
    "secrets": _NUMBERS,
    "socket": _STEP,
    "subprocess": _STEP,
    "threading": _WORK,
    "urllib.request": _STEP,
}
"""Whatever is called in one of these."""
_HARMLESS: Final = frozenset({"random.Random"})
"""It draws the same numbers every time if it is given a seed."""


class Trap(NamedTuple):
    """A call that may give something else in a replay, or keeps the body from being replayed at all."""

    line: int
    """In its file."""
    call: str
    advice: str


def warn_of_traps(function: Callable[..., Any]) -> None:
    """Give a WorkflowTrapWarning for each trap in a body; where no source is to be had, for none."""
    target: Any = inspect.unwrap(function)
    for trap in traps_in(target):
        warnings.warn_explicit(
            f"the workflow's body {target.__qualname__!r} calls {trap.call}, which a replay does again: {trap.advice};"
            f" or say that it is meant with the comment '# {ALLOWED}'",
            WorkflowTrapWarning,
            target.__code__.co_filename,
            trap.line,
            module=target.__module__,
        )


def traps_in(function: Callable[..., Any]) -> list[Trap]:
    """In the order of lines. What the body defines inside itself is left out: it may be a step."""
    if not isinstance(function, types.FunctionType):
        return []
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):  # made by exec, at a prompt, or in the midst of something
        return []
    body = next((node for node in tree.body if isinstance(node, ast.AsyncFunctionDef)), None)
    if body is None:
        return []
    names = _Names(function, body)
    found = [
        Trap(first + call.lineno - 1, name, advice)
        for call in _calls(body.body)
        if (name := names.of(call.func)) is not None and (advice := _advice(name)) is not None
        if ALLOWED not in lines[call.lineno - 1]
    ]
    return sorted(found)


def _advice(name: str) -> str | None:
    if name in _HARMLESS:
        return None
    module = next((module for module in _MODULES if name.startswith(f"{module}.")), None)
    return _CALLS.get(name) if module is None else _MODULES[module]


def _calls(nodes: list[ast.stmt]) -> Iterator[ast.Call]:
    left: list[ast.AST] = [*nodes]
    while left:
        node = left.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            continue
        if isinstance(node, ast.Call):
            yield node
        left += ast.iter_child_nodes(node)


class _Names:
    """What the names in a body stand for: by their imports, whatever they are called here."""

    def __init__(self, function: types.FunctionType, body: ast.AsyncFunctionDef) -> None:
        code = function.__code__
        self._imported = dict(_imports(body))
        self._local = {*code.co_varnames, *code.co_cellvars}
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        self._known = {**vars(builtins), **function.__globals__}
        for name, cell in cells.items():
            try:
                self._known[name] = cell.cell_contents
            except ValueError:  # empty as yet: the name of the workflow itself, for one that starts itself
                self._local.add(name)

    def of(self, node: ast.expr) -> str | None:
        """The dotted name of what is called, as its module has it; None where only running it would tell."""
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.append(node.attr)
            node = node.value
        root = self._root(node.id) if isinstance(node, ast.Name) else None
        return None if root is None else ".".join([root, *reversed(attributes)])

    def _root(self, name: str) -> str | None:
        if name in self._imported:
            return self._imported[name]
        if name in self._local or name not in self._known:
            return None
        value = self._known[name]
        if isinstance(value, types.ModuleType):
            return value.__name__
        module, qualname = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
        return f"{module}.{qualname}" if isinstance(module, str) and isinstance(qualname, str) else None


def _imports(body: ast.AsyncFunctionDef) -> Iterator[tuple[str, str]]:
    for node in ast.walk(body):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0], alias.name if alias.asname else alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"
