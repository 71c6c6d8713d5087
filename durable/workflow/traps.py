"""Warn of what a body should not do itself, where it is declared: ask for the time, draw numbers, wait, or do I/O."""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from durable.errors import WorkflowTrapWarning
from durable.workflow.trap_hash import HASH, has_text
from durable.workflow.trap_list import ENVIRONMENT, HASH_OF_TEXT, RUNS_ITS_ARGUMENT, UNORDERED_START, Unless, entry_of
from durable.workflow.trap_scopes import ENVIRON, Function, Names, Scope, outer_names, own_nodes
from durable.workflow.trap_sets import set_traps

__all__ = ["Trap", "traps_in", "warn_of_traps"]

ALLOWED: Final = "durable: ok"
"""A comment with this, on a line of a call, says that it is meant."""
_CALLING_METHODS: Final = frozenset({"add_done_callback", "sort"})
"""Of whatever they are methods: they call the function that they are given, in the body."""
_TASK_MAKERS: Final = frozenset({"create_task", "ensure_future"})


class Trap(NamedTuple):
    """Something that may come to something else in a replay, or keeps the body from being replayed at all."""

    line: int
    """In its file."""
    what: str
    """Such as `time.time`."""
    advice: str
    """What is wrong with it, and what to use instead."""


class _Found(NamedTuple):
    node: ast.expr
    what: str
    advice: str


def warn_of_traps(function: Callable[..., Any]) -> None:
    """Give a WorkflowTrapWarning for each trap in a body; where no source is to be had, for none."""
    target: Any = inspect.unwrap(function)
    for trap in traps_in(target):
        warnings.warn_explicit(
            f"the workflow's body {target.__qualname__!r} {trap.advice};"
            f" or say that it is meant with the comment '# {ALLOWED}'",
            WorkflowTrapWarning,
            target.__code__.co_filename,
            trap.line,
            module=target.__module__,
        )


def traps_in(function: Callable[..., Any]) -> list[Trap]:
    """In the order of lines, those of the body and of the functions that it calls itself: those inside it, and those
    of its module, as far as nothing decorates them.

    A function that it only hands on, as to `ctx.step`, may do what it likes.
    """
    body = _read(function)
    if body is None or not isinstance(body.node, ast.AsyncFunctionDef):
        return []
    arguments = body.node.args.args
    found: set[Trap] = set()
    sources = {body.code: body}
    for source in (left := [body]):  # grows meanwhile
        is_body = source is body
        context = arguments[0].arg if is_body and arguments else _context_of(source.node)
        for scope in _running(source, sources, left):
            for node, what, advice in _traps_of(scope, source.names, context, is_body=is_body and scope.parent is None):
                if not source.allows(node):
                    found.add(Trap(source.first + node.lineno - 1, what, advice))
    return sorted(found)


class _Source(NamedTuple):
    """A function, as it is written in its file."""

    code: types.CodeType
    node: ast.FunctionDef | ast.AsyncFunctionDef
    names: Names
    lines: Sequence[str]
    first: int
    """The number of its first line."""

    def allows(self, node: ast.expr) -> bool:
        """A comment says that this is meant."""
        return any(ALLOWED in line for line in self.lines[node.lineno - 1 : node.end_lineno])


def _read(function: Callable[..., Any]) -> _Source | None:
    """None where no source is to be had, as of what is made by exec, at a prompt, or in the midst of something."""
    if not isinstance(function, types.FunctionType):
        return None
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return None
    node = tree.body[0] if tree.body else None
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    return _Source(function.__code__, node, Names(outer_names(function)), lines, first)


def _context_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The parameter of a helper that takes the context, as its annotation says; empty where none does."""
    for argument in (*node.args.args, *node.args.kwonlyargs):
        if argument.annotation is not None and ast.unparse(argument.annotation).endswith("WorkflowContext"):
            return argument.arg
    return ""


def _traps_of(scope: Scope, names: Names, context: str, *, is_body: bool) -> Iterator[_Found]:
    for node in own_nodes(scope.function):
        if isinstance(node, ast.Call):
            yield from _call_traps(node, scope, names)
        elif isinstance(node, ast.Name | ast.Attribute) and names.of(node, scope) == ENVIRON:
            yield _Found(node, ENVIRON, f"reads {ENVIRON}, {ENVIRONMENT}")
        for iterated in set_traps(node, scope, names, context, is_body=is_body):
            yield _Found(iterated.node, "a set", iterated.advice)


def _call_traps(call: ast.Call, scope: Scope, names: Names) -> Iterator[_Found]:
    name = names.of(call.func, scope)
    if name is None:
        return
    if name.startswith("asyncio.") and name.endswith(".as_completed") and _starts_in_no_order(call, scope):
        yield _Found(call, name, f"calls {name}, {UNORDERED_START}")
    if name == HASH and call.args and has_text(call.args[0], scope, names):
        yield _Found(call, name, f"calls {name}, {HASH_OF_TEXT}")
    entry = entry_of(name)
    if isinstance(entry, Unless):
        entry = None if _is_harmless(call, entry) else entry.advice
    if entry is not None:
        # The event loop of a body has neither a clock nor threads.
        why = "which raises in a body" if name.startswith("asyncio.") else "which a replay does again"
        yield _Found(call, name, f"calls {name}, {why}: {entry}")


def _is_harmless(call: ast.Call, form: Unless) -> bool:
    if any(isinstance(each, ast.Starred) for each in call.args) or any(each.arg is None for each in call.keywords):
        return True  # nobody can tell what it is given
    by_name = next((each.value for each in call.keywords if each.arg == form.keyword), None)
    given = call.args[form.position] if len(call.args) > form.position else by_name
    if given is None:
        return form.is_default
    return form.value is None or ast.unparse(given) == form.value


def _starts_in_no_order(call: ast.Call, scope: Scope) -> bool:
    """It puts into a set what it is given: coroutines by their addresses, tasks by their numbers."""
    given = call.args[0] if call.args else None
    if isinstance(given, ast.Name):
        home = scope.home(given.id)
        given = None if home is None else home.value(given.id)
    match given:
        case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
            made = elements
        case ast.ListComp(elt=element) | ast.GeneratorExp(elt=element) | ast.SetComp(elt=element):
            made = [element]
        case _:
            return False
    calls = [each.func for each in made if isinstance(each, ast.Call)]
    makers = [func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls]
    return any(maker not in _TASK_MAKERS for maker in makers)


def _running(source: _Source, sources: dict[types.CodeType, _Source], left: list[_Source]) -> list[Scope]:
    """The function, and what is defined in it and certainly runs as a part of it.

    Those of its module that it calls are added to `left`, and to `sources`, once.
    """
    scopes = [Scope(source.node)]
    met: set[int] = set()
    for scope in scopes:  # grows meanwhile
        for node in own_nodes(scope.function):
            if not isinstance(node, ast.Call):
                continue
            for function, home in _called(node, scope, source.names):
                if id(function) not in met:
                    met.add(id(function))
                    scopes.append(Scope(function, home))
            helper = None if source.allows(node) else _helper(node, scope, source)
            if helper is not None and helper.code not in sources:
                sources[helper.code] = helper
                left.append(helper)
    return scopes


def _helper(call: ast.Call, scope: Scope, source: _Source) -> _Source | None:
    """The function beside it that is called; none that is decorated, which may be run elsewhere, or not at all."""
    if not isinstance(call.func, ast.Name) or scope.home(call.func.id) is not None:
        return None
    value = source.names.value(call.func.id)
    if not isinstance(value, types.FunctionType) or hasattr(value, "__wrapped__"):
        return None
    if value.__code__.co_filename != source.code.co_filename:
        return None
    found = _read(value)
    return None if found is None or found.node.decorator_list else found


def _called(call: ast.Call, scope: Scope, names: Names) -> Iterator[tuple[Function, Scope]]:
    called: list[ast.expr] = [call.func]
    is_method = isinstance(call.func, ast.Attribute) and call.func.attr in _CALLING_METHODS
    if is_method or names.of(call.func, scope) in RUNS_ITS_ARGUMENT:
        called += [*call.args, *(keyword.value for keyword in call.keywords)]
    for node in called:
        if isinstance(node, ast.Lambda):
            yield node, scope
        elif isinstance(node, ast.Name) and (home := scope.home(node.id)) is not None:
            yield from ((function, home) for function in home.functions.get(node.id, ()))
