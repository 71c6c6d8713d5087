"""What was enqueued, with its arguments as the function takes them, and how an expectation is compared with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from durable.callbacks import CallbackInput
from durable.definition import Definition, SequenceSpec
from durable.durations import aware, seconds
from durable.errors import ConfigurationError
from durable.execution import Execution, Kind, Status
from durable.registry import Registry
from durable.task import Task

__all__ = ["EnqueuedCall", "Expectation", "calls_of", "complaint"]

_MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class EnqueuedCall:
    """One execution as a test sees it: the call that it stands for, and its record."""

    task_name: str
    arguments: Mapping[str, Any] | None
    """By parameter, defaults included; None for a task that the app does not know, or whose input it cannot read."""
    record: Execution

    @property
    def execution_id(self) -> str:
        return self.record.id

    @property
    def status(self) -> Status:
        return self.record.status

    @property
    def due_at(self) -> datetime:
        """When it is due next, or was due last."""
        return self.record.due_at

    def __str__(self) -> str:
        if self.arguments is None:
            call = f"{self.task_name}: input {self.record.input}"
        else:
            call = f"{self.task_name}({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"
        return f"{call}: {self.status}, due {self.due_at.isoformat(' ')}"


class Expectation:
    """A task with some of its arguments and options; what is not named may be anything."""

    def __init__(self, task: Task[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """Raises ConfigurationError for a name that is neither a parameter nor an option that can be compared."""
        self._name = task.name
        arguments, self._options = task.split(dict(named))
        self._arguments = _bound(task.definition, args, arguments)
        for name in self._options:
            if name not in _OPTIONS:
                raise ConfigurationError(f"the option {name!r} cannot be compared; known: {', '.join(_OPTIONS)}")

    def __str__(self) -> str:
        named = {**self._arguments, **self._options}
        return f"{self._name}({', '.join(f'{name}={value!r}' for name, value in named.items())})"

    def misses(self, call: EnqueuedCall) -> list[str] | None:
        """What differs, in words; nothing where the call is as expected, None where it is of another task."""
        if call.task_name != self._name:
            return None
        if call.arguments is None:
            return ["its input cannot be read"]
        given = call.arguments
        wrong = [
            f"{name}={given.get(name)!r}, not {expected!r}"
            for name, expected in self._arguments.items()
            if name not in given or given[name] != expected
        ]
        for name, expected in self._options.items():
            wanted, actual = _OPTIONS[name](expected, call.record)
            if wanted != actual:
                wrong.append(f"{name}={actual!r}, not {wanted!r}")
        return wrong


def calls_of(registry: Registry, records: Sequence[Execution]) -> list[EnqueuedCall]:
    return [EnqueuedCall(record.task_name, _arguments(registry, record), record) for record in records]


def complaint(expectation: Expectation, calls: Sequence[EnqueuedCall]) -> str:
    """Why an assertion fails: what was expected, and what is there, the nearest first."""
    near = [(call, misses) for call in calls if (misses := expectation.misses(call)) is not None]
    near.sort(key=lambda one: len(one[1]))
    far = [call for call in calls if expectation.misses(call) is None]
    lines = [f"{call}\n      {'; '.join(misses)}" for call, misses in near] + [str(call) for call in far]
    if not lines:
        return f"{expectation} was not enqueued; nothing was"
    if len(lines) > _MOST_SHOWN:
        lines = [*lines[:_MOST_SHOWN], f"and {len(lines) - _MOST_SHOWN} more"]
    return "\n  - ".join([f"{expectation} was not enqueued; there are:", *lines])


# --- arguments and options -------------------------------------------------------------------------------------------


def _function(definition: Definition) -> Callable[..., Any]:
    """Whose parameters the input has."""
    return _function(definition.spec.steps[0]) if isinstance(definition.spec, SequenceSpec) else definition.function


def _parameters(definition: Definition) -> inspect.Signature:
    first = definition.spec.steps[0] if isinstance(definition.spec, SequenceSpec) else definition
    signature = inspect.signature(_function(definition))
    parameters = list(signature.parameters.values())
    return signature.replace(parameters=parameters[1:] if first.wants_context else parameters)


def _bound(definition: Definition, args: tuple[Any, ...], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that an expectation names, by parameter."""
    if definition.kind is Kind.SLEEPING:
        if len(args) > 1 or set(arguments) - {"sleeping_id"} or (args and arguments):
            raise ConfigurationError(f"sleeping task {definition.name!r} has one argument, sleeping_id")
        return {"sleeping_id": args[0]} if args else dict(arguments)
    try:
        return _flat(_parameters(definition).bind_partial(*args, **arguments))
    except TypeError as error:
        raise ConfigurationError(f"task {definition.name!r}: {error}, and it is no option either") from None


def _flat(bound: inspect.BoundArguments) -> dict[str, Any]:
    """By name, those of a `**rest` among them."""
    flat: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        is_rest = bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
        flat.update(value if is_rest else {name: value})
    return flat


def _arguments(registry: Registry, record: Execution) -> dict[str, Any] | None:
    definition = registry.find(record.task_name)
    if definition is None:
        return None
    if definition.kind is Kind.SLEEPING:
        return {"sleeping_id": record.sleeping_id}
    try:
        if record.kind is Kind.CALLBACK:
            (name,) = _parameters(definition).parameters
            return {name: definition.completion(CallbackInput.load(record.input))}
        args, kwargs = definition.signature.load(record.input)
        bound = _parameters(definition).bind(*args, **kwargs)
    except Exception:  # annotations are the user's code, and another version of it may have stored the input
        return None
    bound.apply_defaults()
    return _flat(bound)


def _length(value: Any, field: str) -> float | None:
    return None if value is None else seconds(value, field)


# Each gives what is expected and what the record has, in the same form.
_OPTIONS: Mapping[str, Callable[[Any, Execution], tuple[Any, Any]]] = {
    "queue": lambda value, record: (value, record.queue),
    "priority": lambda value, record: (value, record.priority),
    "delay": lambda value, record: (_length(value, "delay"), record.delay),
    "timeout": lambda value, record: (_length(value, "timeout"), record.timeout),
    "run_at": lambda value, record: (aware(value, "run_at"), record.due_at),
    "retry": lambda value, record: (value.to_json(), record.retry),
    "max_deliveries": lambda value, record: (value, record.max_deliveries),
    "idempotency_key": lambda value, record: (value, record.idempotency_key),
}
