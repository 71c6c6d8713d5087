"""What a registered function is, apart from how it is typed and called: its codec shapes, options and kind."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from durable.alike import Alike, with_input
from durable.callbacks import CallbackInput
from durable.codec import Codec, Shape, Signature
from durable.errors import ConfigurationError, ErrorInfo, InvalidInput, SerializationError
from durable.execution import FinishedExecution, Kind, NewExecution, Status
from durable.options import Overrides, TaskOptions, checked_text
from durable.returns import Again, Completion, Done, LoopResult, ParentResult, Spawn, end_error

__all__ = ["Definition", "JobSpec", "LoopSpec", "ParentSpec", "SequenceSpec", "WorkflowSpec", "new_execution"]


@dataclass(frozen=True, slots=True)
class ParentSpec:
    """How a parent ends: by a function, by an execution of another definition, or with its children's results."""

    finalize: Callable[..., Any] | Definition | None


@dataclass(frozen=True, slots=True)
class SequenceSpec:
    steps: tuple[Definition, ...]


@dataclass(frozen=True, slots=True)
class LoopSpec:
    max_iterations: int
    delay: float


class WorkflowSpec:
    """What a workflow says beside the options of every definition; filled while it is declared."""

    def __init__(self) -> None:
        self.finalize: Callable[[Any], Awaitable[None]] | None = None
        """Runs before the end, whatever that is; None: nothing does."""
        self.queries: dict[str, Callable[..., Any]] = {}
        """Functions over what it has published, by name."""
        self.updates: dict[str, Callable[..., Any]] = {}
        """Requests that it answers, by name."""


class JobSpec:
    """What the declarations of keyed jobs derive from; a definition needs to know no more of them."""


class Definition:
    """One registered name. Annotations are resolved at first use, when all modules have been imported."""

    def __init__(
        self,
        *,
        name: str,
        kind: Kind,
        function: Callable[..., Any] | None,
        codec: Callable[[], Codec],
        options: TaskOptions,
        spec: ParentSpec | SequenceSpec | LoopSpec | JobSpec | WorkflowSpec | None = None,
        wants_context: bool = False,
        output: Any = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self._function = function
        self._codec = codec
        self.options = options
        self.spec = spec
        self.wants_context = wants_context
        self.is_async = inspect.iscoroutinefunction(function)
        self._output = output

    @property
    def codec(self) -> Codec:
        return self._codec()

    @property
    def function(self) -> Callable[..., Any]:
        if self._function is None:
            raise ConfigurationError(f"{self.kind} {self.name!r} has no function to call")
        return self._function

    @cached_property
    def signature(self) -> Signature:
        """The parameters; those of a sequence are its first step's."""
        if isinstance(self.spec, SequenceSpec):
            return self.spec.steps[0].signature
        return self.codec.signature(self.function, skip_first=self.wants_context, name=self.name)

    @cached_property
    def parameter_names(self) -> frozenset[str]:
        if self._function is None:
            return frozenset()
        return frozenset(inspect.signature(self._function).parameters)

    @cached_property
    def plain(self) -> Overrides:
        """Of a call without options; always the same one."""
        return Overrides(self.options)

    @cached_property
    def model(self) -> NewExecution:
        """The record of a call without options, but for its ids and its input."""
        return _new_execution(self, "", self.plain, "")

    @cached_property
    def result(self) -> Shape[Any]:
        """The shape of the execution's result."""
        match self.spec:
            case SequenceSpec(steps):
                return steps[-1].result
            case ParentSpec(Definition() as finalize):
                return finalize.result
            case ParentSpec(None):
                output = returned(self.function, Spawn)
                return self.codec.value(ParentResult[output], f"result of task {self.name!r}")  # type: ignore[valid-type]
            case ParentSpec(finalize):
                assert finalize is not None
                assert not isinstance(finalize, Definition)
                return self.codec.value(annotated_return(finalize), f"result of finalize of {self.name!r}")
            case LoopSpec():
                output = returned(self.function, Done)
                return self.codec.value(LoopResult[output], f"result of task {self.name!r}")  # type: ignore[valid-type]
            case WorkflowSpec():
                return self.signature.result
            case JobSpec():
                return self.codec.value(None, f"result of {self.name!r}")
            case None:
                if self.kind == Kind.SLEEPING:
                    return self.codec.value(self._output, f"result of task {self.name!r}")
                return self.signature.result

    @cached_property
    def run_output(self) -> Shape[Any]:
        """The shape of what a parent's function returns beside its children."""
        return self.codec.value(returned(self.function, Spawn), f"output of task {self.name!r}")

    def dump_input(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The stored form of a call; raises InvalidInput or SerializationError. A sleeping task's is its unique id."""
        if self.kind == Kind.SLEEPING:
            return checked_text(args[0] if len(args) == 1 and not kwargs else None, "sleeping_id")
        return self.signature.bind_and_dump(args, kwargs)

    def dump_inputs(self, values: Iterable[Any]) -> Iterator[str]:
        """The stored forms of calls with one argument each; raises as `dump_input`, and names the index."""
        is_sleeping = self.kind == Kind.SLEEPING
        ids = (self.dump_input((value,), {}) for value in values)
        count = 0
        try:
            for stored in ids if is_sleeping else self.signature.dump_each(values):
                yield stored
                count += 1
        except (InvalidInput, SerializationError) as error:
            raise error.within(f"inputs[{count}]") from error.__cause__

    @property
    def may_dump_late(self) -> bool:
        """Whether inputs may be dumped while those before are being stored: no user code holds the transaction open."""
        return self.kind != Kind.SLEEPING and self.signature.runs_no_user_code

    def dump_result(self, value: Any) -> str:
        return self.result.dump(value, "result")

    def load_result(self, text: str) -> Any:
        return self.result.load(text, "result")

    def read_end(self, end: FinishedExecution) -> Any:
        """The result of a finished execution; raises ExecutionFailed, ExecutionTimedOut or ExecutionCancelled."""
        if end.status != Status.COMPLETED:
            raise end_error(self.name, end.id, end.status, self.load_error(end.error))
        return self.load_result(end.output or "null")

    @cached_property
    def _completion(self) -> tuple[Shape[Any], Shape[Any]]:
        """The shapes of the output and of the context that a callback's function takes; Any where it does not say."""
        annotation = _first_annotation(self.function, skip=1 if self.wants_context else 0)
        given = get_args(annotation) if get_origin(annotation) is Completion else (Any, Any)
        if not _takes_completion(annotation):
            raise ConfigurationError(self._not_called_back)
        output, context = (self.codec.value(each, f"Completion of task {self.name!r}") for each in given)
        return output, context

    def dump_context(self, context: Any, *, is_within: bool) -> str | None:
        """The stored context of a callback by this function; raises ConfigurationError if it cannot be one."""
        self.check_callback()
        shape = self._completion[1]
        if is_within and not (self.is_async and self.wants_context):
            raise ConfigurationError(
                f"{self.name!r} cannot run in a transaction: it must be async and take a TaskContext for its connection"
            )
        if is_within and self.options.delay:
            raise ConfigurationError(f"{self.name!r} has a delay, so it cannot run in the transaction of an end")
        if is_within and self.options.is_pooled:
            raise ConfigurationError(f"{self.name!r} runs in a pool, so it cannot run in the transaction of an end")
        return None if context is None else shape.dump(context, "context")

    def check_callback(self) -> None:
        """Raise ConfigurationError for what is not a task of one Completion.

        An annotation that cannot be resolved yet, while modules are imported, is judged when it is stored.
        """
        if self.kind != Kind.TASK or len(self.parameter_names) != 1 + self.wants_context:
            raise ConfigurationError(self._not_called_back)
        try:
            annotation = _first_annotation(self.function, skip=1 if self.wants_context else 0)
        except ConfigurationError:
            return
        if not _takes_completion(annotation):
            raise ConfigurationError(self._not_called_back)

    @property
    def _not_called_back(self) -> str:
        return f"{self.name!r} cannot be called back: it must be a task of one Completion"

    def completion(self, given: CallbackInput) -> Completion[Any, Any]:
        """The argument of a callback; raises SerializationError where the function's annotation does not fit."""
        output, context = self._completion
        is_completed = given.status == Status.COMPLETED
        return Completion(
            given.execution_id,
            given.task_name,
            given.status,
            None if given.context is None else context.load(given.context, "context"),
            output.load(given.output or "null", "output") if is_completed else None,
            None if is_completed else self.load_error(given.error),
            given.reason,
        )

    def load_error(self, text: str | None) -> ErrorInfo | None:
        return None if text is None else self.codec.load_error(text)


def new_execution(definition: Definition, stored_input: str, overrides: Overrides, execution_id: str) -> NewExecution:
    """The record of one call, as a root; `child.place` puts it into a tree."""
    if overrides is definition.plain and definition.kind is not Kind.SLEEPING:
        return with_input(definition.model, execution_id, stored_input)
    return _new_execution(definition, stored_input, overrides, execution_id)


def _new_execution(definition: Definition, stored_input: str, overrides: Overrides, execution_id: str) -> NewExecution:
    options = overrides.options
    is_sleeping = definition.kind == Kind.SLEEPING
    key = overrides.idempotency_key
    return NewExecution(
        id=execution_id,
        root_id=execution_id,
        parent_id=None,
        child_index=None,
        is_finalize=False,
        depth=0,
        kind=definition.kind,
        task_name=definition.name,
        task_version=options.version,
        queue=options.queue,
        priority=options.priority,
        input="{}" if is_sleeping else stored_input,
        idempotency_key=key,
        idempotency_hash=None if key is None else definition.codec.payload_hash(stored_input),
        sleeping_id=stored_input if is_sleeping else None,
        retry=overrides.retry_json,
        max_attempts=options.retry.max_attempts,
        max_deliveries=options.max_deliveries,
        timeout=options.timeout,
        delay=options.delay,
        run_at=overrides.run_at,
        is_pooled=options.is_pooled,
        serial_key=overrides.serial_key,
        on_complete=overrides.on_complete,
        outlives_parent=overrides.outlives_parent,
    )


def new_executions(
    definition: Definition, inputs: Sequence[str], overrides: Overrides, ids: Sequence[str]
) -> Sequence[NewExecution]:
    """The records of calls that differ in their input alone; what they share is worked out once."""
    if definition.kind == Kind.SLEEPING or overrides.idempotency_key is not None:
        calls = zip(inputs, ids, strict=True)
        return [new_execution(definition, stored, overrides, id_) for stored, id_ in calls]
    return Alike(new_execution(definition, "", overrides, ""), ids, inputs)


def annotated_return(function: Callable[..., Any]) -> Any:
    """The return annotation of a function, resolved; Any where there is none."""
    try:
        return typing.get_type_hints(inspect.unwrap(function), include_extras=True).get("return", Any)
    except Exception as error:  # an annotation as text is code, and may fail in any way
        name = getattr(function, "__qualname__", repr(function))
        raise ConfigurationError(f"the return annotation of {name} cannot be resolved: {error}") from None


def _first_annotation(function: Callable[..., Any], *, skip: int) -> Any:
    """The annotation of a parameter, resolved; Any where there is none."""
    names = list(inspect.signature(function).parameters)[skip:]
    try:
        hints = typing.get_type_hints(inspect.unwrap(function))
    except Exception as error:  # an annotation as text is code, and may fail in any way
        name = getattr(function, "__qualname__", repr(function))
        raise ConfigurationError(f"the annotations of {name} cannot be resolved: {error}") from None
    return hints.get(names[0], Any) if names else Any


def _takes_completion(annotation: Any) -> bool:
    """Whether a parameter so annotated may be given a Completion; without an annotation it may."""
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return any(
        part in (Any, object, Completion) or get_origin(part) is Completion or isinstance(part, TypeVar)
        for part in parts
    )


def returned(function: Callable[..., Any], wrapper: type[Any]) -> Any:
    """The T of `wrapper[T]` in a function's return annotation, also inside a union with Again; Any where it is bare."""
    annotation = annotated_return(function)
    for candidate in (annotation, *get_args(annotation)):
        if candidate is Again:
            continue
        if get_origin(candidate) is wrapper:
            return get_args(candidate)[0]
    return Any
