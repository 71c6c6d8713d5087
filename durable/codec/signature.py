"""The stored form of a call: a function's arguments as one JSON object, keyed by parameter name."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from inspect import Parameter
from types import SimpleNamespace
from typing import Any, Final, get_origin

from pydantic import ValidationError
from typing_extensions import Unpack

from durable.codec.explain import explain, surrogate_in
from durable.codec.format import Format, format_of, format_of_fields
from durable.codec.limits import Limits
from durable.codec.seal import Seal
from durable.codec.shape import Shape
from durable.errors import ConfigurationError, InvalidInput

__all__ = ["Signature"]

_INPUT: Final = "input"
_EMPTY: Final = "{}"
_BY_PLACE: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class Signature:
    """Binds, checks and stores the arguments of one function, and gives them back to call it with.

    Only the arguments that a caller gave are stored: a default is applied where the function runs. So a parameter
    with a default can be added while old inputs wait, and a default can change. Annotations are resolved at first
    use, when all modules are imported; without one, a parameter takes whatever JSON gives back unchanged.
    """

    __slots__ = (
        "_by_place",
        "_format",
        "_function",
        "_is_simple",
        "_limits",
        "_named",
        "_parameters",
        "_place_only",
        "_rest",
        "_rest_named",
        "_seal",
        "name",
        "result",
    )

    def __init__(
        self, function: Callable[..., Any], limits: Limits, seal: Seal, *, skip_first: bool = False, name: str = ""
    ) -> None:
        """`skip_first` leaves out the leading parameter, which the library fills with the context.

        Raises ConfigurationError if there is no such parameter, or if the callable has no readable signature.
        """
        self.name = name or getattr(function, "__qualname__", type(function).__name__)
        self.result: Shape[Any] = Shape(self._make_result, seal)
        self._function = function
        self._limits = limits
        self._seal = seal
        self._format: Format | None = None
        self._parameters = _parameters(function, self.name, skip_first)
        kinds = [(parameter.name, parameter.kind) for parameter in self._parameters]
        self._by_place = tuple(name for name, kind in kinds if kind in _BY_PLACE)
        self._place_only = sum(kind is Parameter.POSITIONAL_ONLY for _, kind in kinds)
        self._named = frozenset(
            name for name, kind in kinds if kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        )
        self._rest = next((name for name, kind in kinds if kind is Parameter.VAR_POSITIONAL), None)
        self._rest_named = next((name for name, kind in kinds if kind is Parameter.VAR_KEYWORD), None)
        self._is_simple = not self._place_only and self._rest is None and self._rest_named is None

    def build(self) -> Format:
        """Build now what is otherwise built at first use; raises ConfigurationError for unusable annotations."""
        built = self._format
        if built is None:
            hints = _resolve({p.name: p.annotation for p in self._parameters}, self._function, self.name)
            fields = {p.name: (_stored_type(p, hints[p.name], self.name), _is_required(p)) for p in self._parameters}
            built = format_of_fields(fields, f"task {self.name!r}", self._limits)
            # A result that cannot be stored must be known before the first call, not after it has run.
            self.result.build()
            self._format = built
        return built

    @property
    def runs_no_user_code(self) -> bool:
        """As of a format; a payload codec is user code as well. Raises as `build`."""
        return self._seal.hook is None and (self._format or self.build()).runs_no_user_code

    def bind_and_dump(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Return the text to store for a call.

        Raises InvalidInput for arguments that do not fit the parameters or their annotations, SerializationError with
        the path of what cannot be stored, and PayloadTooLarge.
        """
        built = self._format or self.build()
        if not self._parameters and not args and not kwargs and self._seal.hook is None:
            return _EMPTY
        return self._dump(built, self._bind(args, kwargs))

    def dump_each(self, values: Iterable[Any]) -> Iterator[str]:
        """The texts to store for calls with one argument each; raises as `bind_and_dump` where a value does not fit."""
        if not self._by_place:
            return (self.bind_and_dump((value,), {}) for value in values)
        built, name = self._format or self.build(), self._by_place[0]
        return (self._dump(built, {name: value}) for value in values)

    def _dump(self, built: Format, given: dict[str, Any]) -> str:
        try:
            fitting = built.validate(given)
        except ValidationError as error:
            raise surrogate_in(error, _INPUT) or InvalidInput(self.name, explain(error, _INPUT)) from None
        except Exception as error:  # user code in validators may raise anything
            raise InvalidInput(self.name, f"a validator raised {type(error).__name__}") from error
        return self._seal.close(built.write(fitting, _INPUT), _INPUT)

    def load(self, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return (args, kwargs) of a stored call, without the context.

        Raises InvalidInput if this version of the function does not take it, which includes an argument that it does
        not know: dropping that would run something else than what was asked for.
        """
        if text == _EMPTY and not self._parameters:
            return (), {}
        built = self._format or self.build()
        data = self._seal.open(text, _INPUT)
        try:
            given: dict[str, Any] = built.read(data)
        except ValidationError as error:
            raise InvalidInput(self.name, explain(error, _INPUT)) from None
        except Exception as error:  # as above
            raise InvalidInput(self.name, f"a validator raised {type(error).__name__}") from error
        return ((), given) if self._is_simple else self._unbind(given)

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        given = dict(zip(self._by_place, args, strict=False))
        if len(args) > len(self._by_place):
            surplus = args[len(self._by_place) :]
            if self._rest is None:
                raise InvalidInput(self.name, f"takes {len(self._by_place)} arguments by place, got {len(args)}")
            given[self._rest] = surplus
        if kwargs:
            self._bind_named(kwargs, given)
        return given

    def _bind_named(self, kwargs: Mapping[str, Any], given: dict[str, Any]) -> None:
        others: dict[str, Any] = {}
        for name, value in kwargs.items():
            if name not in self._named:
                others[name] = value
            elif name in given:
                raise InvalidInput(self.name, f"argument {name!r} is given twice, by place and by name")
            else:
                given[name] = value
        if others and self._rest_named is None:
            raise InvalidInput(self.name, f"takes no argument named {next(iter(others))!r}")
        if others and self._rest_named is not None:
            given[self._rest_named] = others

    def _unbind(self, given: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        named: dict[str, Any] = given.pop(self._rest_named, {}) if self._rest_named else {}
        rest: list[Any] = given.pop(self._rest, []) if self._rest else []
        # With more arguments behind them, all parameters before go by place; else only those that must.
        count = len(self._by_place) if rest else self._place_only
        by_place = [given.pop(name) for name in self._by_place[:count] if name in given]
        return (*by_place, *rest), {**given, **named}

    def _make_result(self) -> Format:
        annotation = inspect.signature(self._function).return_annotation
        hints = _resolve({"return": annotation}, self._function, self.name)
        return format_of(hints["return"], f"result of task {self.name!r}", self._limits)


def _parameters(function: Callable[..., Any], name: str, skip_first: bool) -> list[Parameter]:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"task {name!r} has no signature that Python can read: {error}") from None
    if not skip_first:
        return parameters
    if not parameters or parameters[0].kind not in _BY_PLACE:
        raise ConfigurationError(f"task {name!r} must take the context as its first parameter")
    return parameters[1:]


def _is_required(parameter: Parameter) -> bool:
    return parameter.default is Parameter.empty and parameter.kind not in (
        Parameter.VAR_POSITIONAL,
        Parameter.VAR_KEYWORD,
    )


def _stored_type(parameter: Parameter, annotation: Any, task: str) -> Any:
    """Give the type of what is stored under a parameter's name: *args are a list, and **kwargs an object."""
    if get_origin(annotation) in (Unpack, typing.Unpack):
        raise ConfigurationError(f"task {task!r}: Unpack is not supported; declare the parameters one by one")
    if parameter.kind is Parameter.VAR_POSITIONAL:
        return list[annotation]
    if parameter.kind is Parameter.VAR_KEYWORD:
        return dict[str, annotation]
    return annotation


def _resolve(annotations: Mapping[str, Any], function: Callable[..., Any], name: str) -> dict[str, Any]:
    """Give the annotations as types; those that are missing become Any."""
    wanted = {key: Any if found is Parameter.empty else found for key, found in annotations.items()}
    target: Any = inspect.unwrap(function)
    target = getattr(target, "func", target)  # functools.partial
    names = getattr(target, "__globals__", None) or getattr(getattr(target, "__call__", None), "__globals__", {})  # noqa: B004
    try:
        return typing.get_type_hints(SimpleNamespace(__annotations__=wanted), names, include_extras=True)
    except Exception as error:  # an annotation as text is code, and may fail in any way
        raise ConfigurationError(
            f"task {name!r} has an annotation that cannot be resolved: {error}; "
            "import its name at the top of the module, not only under TYPE_CHECKING"
        ) from None
