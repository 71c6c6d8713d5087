"""What the names in a body stand for, in it and in what it defines inside itself, as far as reading it tells."""

from __future__ import annotations

import ast
import builtins
import types
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, Final, TypeAlias

__all__ = ["ASYNC_LOOP", "ENVIRON", "SET", "Function", "Names", "Scope", "outer_names", "own_nodes"]

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_PATH: Final = "pathlib.Path"
SET: Final = "builtins.set"
ASYNC_LOOP: Final = "asyncio.loop"
ENVIRON: Final = "os.environ"
_SETS: Final = frozenset({SET, "builtins.frozenset", "collections.abc.Set", "typing.AbstractSet", "typing.Set"})
_LOOPS: Final = frozenset({"asyncio.get_event_loop", "asyncio.get_running_loop"})
_SET_TO_SET: Final = frozenset({"copy", "difference", "intersection", "symmetric_difference", "union"})
_PATH_TO_PATH: Final = frozenset({"absolute", "expanduser", "joinpath", "resolve", "with_name", "with_suffix"})
_NUMBERS: Final = frozenset({"builtins.bool", "builtins.float", "builtins.int"})
_HOMES: Final[Mapping[str, str]] = {
    "genericpath": "os.path", "nt": "os", "ntpath": "os.path", "posix": "os", "posixpath": "os.path",
}  # fmt: skip
"""The modules that others take their functions from, and say so."""
_DEEPEST: Final = 20
"""Of names that stand for names; also what ends the look where two stand for each other."""


def own_nodes(function: Function) -> Iterator[ast.AST]:
    """What runs when the function does, in no order: what is defined inside gives its defaults and decorators alone."""
    left: list[ast.AST] = [function.body] if isinstance(function, ast.Lambda) else [*function.body]
    while left:
        node = left.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            left += node.decorator_list
        if isinstance(node, Function):
            left += [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]
        else:
            left += ast.iter_child_nodes(node)


class Scope:
    """The names that one function has for itself."""

    def __init__(self, function: Function, parent: Scope | None = None) -> None:
        self.function = function
        self.parent = parent
        self.imports: dict[str, str] = {}
        self.functions: defaultdict[str, list[Function]] = defaultdict(list)
        """By the names that the body gives them; without those that something decorates."""
        self.values: dict[str, ast.expr] = {}
        """What a name stands for, that is given to it once and as it is."""
        self.annotations: dict[str, ast.expr] = {}
        self.stored: Counter[str] = Counter()
        arguments = function.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            self.stored[argument.arg] += 1
            if argument.annotation is not None:
                self.annotations[argument.arg] = argument.annotation
        for rest in (arguments.vararg, arguments.kwarg):
            if rest is not None:
                self.stored[rest.arg] += 1
        for node in own_nodes(function):
            self._look(node)

    def _look(self, node: ast.AST) -> None:
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                self.stored[name] += 1
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                self.stored[name] += 1
                if not node.decorator_list:
                    self.functions[name].append(node)
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)):
                self.stored[name] += 1
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                self.stored[name] += 1
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.NamedExpr(target=ast.Name(id=name), value=value)
            ):
                self._assign(name, value)
            case ast.AnnAssign(target=ast.Name(id=name), value=value):
                self.annotations[name] = node.annotation
                if value is not None:
                    self._assign(name, value)
            case ast.Import():
                for alias in node.names:
                    top = alias.name.split(".")[0]
                    self.imports[alias.asname or top] = alias.name if alias.asname else top
            case ast.ImportFrom(level=0, module=str(module)):
                for alias in node.names:
                    self.imports[alias.asname or alias.name] = f"{module}.{alias.name}"
            case _:
                pass

    def _assign(self, name: str, value: ast.expr) -> None:
        self.values[name] = value
        if isinstance(value, ast.Lambda):
            self.functions[name].append(value)

    def home(self, name: str) -> Scope | None:
        """The scope, this or one around it, whose name it is; None: it is a global's or unknown."""
        scope: Scope | None = self
        while scope is not None and name not in scope.imports and name not in scope.stored:
            scope = scope.parent
        return scope

    def value(self, name: str) -> ast.expr | None:
        """What a name of this scope stands for at all times; None where that takes more than a look."""
        return self.values.get(name) if self.stored[name] == 1 else None


def outer_names(function: types.FunctionType) -> dict[str, Any]:
    """What a function finds around itself: globals, and variables of the functions in which it is defined."""
    known = {**vars(builtins), **function.__globals__}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            known[name] = cell.cell_contents
        except ValueError:  # empty as yet: the name of the workflow itself, for one that starts itself
            known.pop(name, None)
    return known


class Names:
    """The dotted names of what a body uses, as their modules have them, and of what type values are.

    All of it is None where only running the body would tell.
    """

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._known = known

    def value(self, name: str) -> object:
        """What a name that no scope has for itself stands for."""
        return self._known.get(name)

    def of(self, node: ast.expr, scope: Scope, depth: int = 0) -> str | None:
        if depth > _DEEPEST:
            return None
        if isinstance(node, ast.Name):
            return self._root(node.id, scope, depth)
        if not isinstance(node, ast.Attribute):
            return None
        owner = self.type_of(node.value, scope, depth + 1) or self.of(node.value, scope, depth + 1)
        return None if owner is None else f"{owner}.{node.attr}"

    def type_of(self, node: ast.expr, scope: Scope, depth: int = 0) -> str | None:
        """Paths, sets whose order counts, and event loops; of anything else None."""
        if depth > _DEEPEST:
            return None
        match node:
            case ast.Name(id=name):
                return self._type_of_name(name, scope, depth + 1)
            case ast.Set(elts=elements):
                return None if all(_is_number(element) for element in elements) else SET
            case ast.SetComp(generators=[ast.comprehension(iter=source)]):
                return None if self._has_numbers(source, scope) else SET
            case ast.SetComp():
                return SET
            case ast.BinOp(left=left, op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
                return SET if self.type_of(left, scope, depth + 1) == SET else None
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return _PATH if _PATH in (self.type_of(each, scope, depth + 1) for each in (left, right)) else None
            case ast.Attribute(value=value, attr="parent"):
                return _PATH if self.type_of(value, scope, depth + 1) == _PATH else None
            case ast.Call():
                return self._type_of_call(node, scope, depth + 1)
            case _:
                return None

    def _type_of_call(self, call: ast.Call, scope: Scope, depth: int) -> str | None:
        name = self.of(call.func, scope, depth) or ""
        short = ".".join((name.split(".")[0], name.split(".")[-1]))
        if short == _PATH:
            return _PATH
        if short in _LOOPS:
            return ASYNC_LOOP
        if name in _SETS:
            return None if not call.args or self._has_numbers(call.args[0], scope) else SET
        owner, _, method = name.rpartition(".")
        if owner == SET and method in _SET_TO_SET:
            return SET
        return _PATH if owner == _PATH and method in _PATH_TO_PATH else None

    def _has_numbers(self, items: ast.expr, scope: Scope) -> bool:
        """Numbers are in a set by their values, the same in every process."""
        match items:
            case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
                return all(_is_number(element) for element in elements)
            case ast.Call(func=func):
                return self.of(func, scope) == "builtins.range"
            case ast.Name(id=name):
                home = scope.home(name)
                annotation = None if home is None else home.annotations.get(name)
                return isinstance(annotation, ast.Subscript) and self.of(annotation.slice, scope) in _NUMBERS
            case _:
                return False

    def _type_of_name(self, name: str, scope: Scope, depth: int) -> str | None:
        home = scope.home(name)
        if home is None:
            return _type_of_value(self._known.get(name))
        if home.stored[name] == 1 and name in home.annotations:
            return self._type_of_annotation(home.annotations[name], home, depth)
        value = home.value(name)
        return None if value is None else self.type_of(value, home, depth)

    def _type_of_annotation(self, node: ast.expr, scope: Scope, depth: int) -> str | None:
        if isinstance(node, ast.Subscript):
            is_ordered = self.of(node.slice, scope, depth) in _NUMBERS
            return None if is_ordered else self._type_of_annotation(node.value, scope, depth)
        name = self.of(node, scope, depth) or ""
        if name in _SETS:
            return SET
        return _PATH if name.split(".")[0] == "pathlib" and name.endswith(".Path") else None

    def _root(self, name: str, scope: Scope, depth: int) -> str | None:
        home = scope.home(name)
        if home is None:
            return _name_of_value(self._known[name]) if name in self._known else None
        if name in home.imports:
            return home.imports[name]
        value = home.value(name)
        return None if value is None else self.of(value, home, depth + 1)


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def _type_of_value(value: object) -> str | None:
    if isinstance(value, PurePath):
        return _PATH
    if not isinstance(value, set | frozenset):
        return None
    return None if all(isinstance(each, int | float) for each in value) else SET  # pyright: ignore[reportUnknownVariableType] - of anything


def _name_of_value(value: Any) -> str | None:
    if isinstance(value, types.ModuleType):
        return _homely(value.__name__)
    if type(value).__module__ == "os" and type(value).__name__ == "_Environ":
        return ENVIRON
    module, qualname = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if module is None and isinstance(value, types.BuiltinMethodType):  # such as random.random, or datetime.now
        owner: Any = value.__self__
        module = getattr(owner if isinstance(owner, type) else type(owner), "__module__", None)
    return f"{_homely(module)}.{qualname}" if isinstance(module, str) and isinstance(qualname, str) else None


def _homely(module: str) -> str:
    """`_io` is what gives `io` its functions, and the like."""
    return _HOMES.get(module) or module.removeprefix("_")
