"""Calls are bound and checked in the caller, stored by parameter name, and given back to call the function with."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, Field, field_validator
from pydantic.dataclasses import dataclass as validated_dataclass
from typing_extensions import TypedDict, Unpack

from durable.codec import Codec, Limits, Signature
from durable.errors import ConfigurationError, InvalidInput, PayloadTooLarge, SerializationError
from tests.unit.payload_models import NAN, ORDER, Item, Order

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypeCheckers

CODEC = Codec()


def signature(function: Callable[..., Any], **options: Any) -> Signature:
    return CODEC.signature(function, **options)


def stored(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    return signature(function).bind_and_dump(args, kwargs)


def called(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    form = signature(function)
    return form.load(form.bind_and_dump(args, kwargs))


# As in a module without annotations; a type checker would call each of its uses unknown.
untyped: Callable[..., Any] = eval("lambda value, other=None: value")


def nothing() -> None: ...
def one(number: int) -> int: ...  # type: ignore[empty-body]
def checkout(order: Order, *, note: str = "", copies: int = 1) -> Order: ...  # type: ignore[empty-body]
def every_kind(a: int, /, b: int = 2, *rest: int, key: str = "k", **named: float) -> None: ...
def context_by_name(*, ctx: Any) -> None: ...
def context_in_rest(*rest: Any) -> None: ...
def only_rest(a: int, *rest: int) -> None: ...
def only_named(a: int, **named: float) -> None: ...
def only_placed(a: int, /, b: int = 2) -> None: ...
def with_context(ctx: OnlyForTypeCheckers, number: int) -> None: ...


def test_a_call_is_stored_as_an_object_keyed_by_parameter() -> None:
    assert stored(one, 5) == '{"number":5}'
    assert stored(one, number=5) == '{"number":5}'
    assert stored(checkout, ORDER, note="x") == stored(checkout, note="x", order=ORDER)


def test_a_call_comes_back_as_arguments_of_the_annotated_types() -> None:
    assert called(one, 5) == ((), {"number": 5})
    assert called(checkout, ORDER, copies=2) == ((), {"order": ORDER, "copies": 2})
    assert called(checkout, ORDER.model_dump(by_alias=True, exclude={"count"})) == ((), {"order": ORDER})
    assert called(untyped, {"a": [1]}) == ((), {"value": {"a": [1]}})


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((1,), {}),
        ((1, 5), {}),
        ((1, 5, 6, 7), {}),
        ((1,), {"b": 3}),
        ((1,), {"key": "x"}),
        ((1, 2, 3), {"key": "x", "w": 1.5, "a": 2.5, "rest": 3.5, "named": 4.5}),
    ],
)
def test_every_kind_of_parameter_receives_what_was_given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    received: list[Any] = []

    def record(a: int, /, b: int = 2, *rest: int, key: str = "k", **named: float) -> None:
        received.append((a, b, rest, key, named))

    record(*args, **kwargs)
    loaded_args, loaded_kwargs = called(every_kind, *args, **kwargs)
    record(*loaded_args, **loaded_kwargs)
    assert received[0] == received[1]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(), min_size=1, max_size=5), st.dictionaries(st.sampled_from("vwxyz"), st.floats(-1, 1)))
def test_any_split_of_arguments_comes_back(args: list[int], kwargs: dict[str, float]) -> None:
    loaded_args, loaded_kwargs = called(every_kind, *args, **kwargs)
    assert list(loaded_args) + [loaded_kwargs[name] for name in ("b",) if name in loaded_kwargs] == args
    assert {name: value for name, value in loaded_kwargs.items() if name != "b"} == kwargs


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (only_rest, (1, 2, 3), {}),
        (only_named, (), {"a": 1, "x": 0.5}),
        (only_placed, (1,), {"b": 3}),
    ],
)
def test_one_unusual_kind_of_parameter_is_enough_to_be_bound_by_kind(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    assert called(function, *args, **kwargs) == (args, kwargs)


def test_a_task_without_parameters_stores_an_empty_object() -> None:
    assert stored(nothing) == "{}"
    assert signature(nothing).load("{}") == ((), {})
    with pytest.raises(InvalidInput, match=r"takes 0 arguments by place, got 1"):
        stored(nothing, 1)
    with pytest.raises(InvalidInput, match=r"input.x"):
        signature(nothing).load('{"x":1}')


def test_the_context_is_neither_stored_nor_resolved() -> None:
    form = signature(with_context, skip_first=True)
    assert form.load(form.bind_and_dump((5,), {})) == ((), {"number": 5})
    with pytest.raises(InvalidInput, match=r"takes no argument named 'ctx'"):
        form.bind_and_dump((), {"ctx": 1, "number": 2})


@pytest.mark.parametrize("function", [nothing, context_by_name, context_in_rest])
def test_a_function_that_cannot_take_a_context_is_refused_at_once(function: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"must take the context as its first parameter"):
        signature(function, skip_first=True)


@pytest.mark.parametrize("function", [dict, 5, None])
def test_what_has_no_readable_signature_is_refused_at_once(function: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"has no signature that Python can read"):
        signature(function)


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "detail"),
    [
        (one, (), {}, "input.number: Field required"),
        (one, (1, 2), {}, "takes 1 arguments by place, got 2"),
        (one, (1,), {"number": 2}, "argument 'number' is given twice"),
        (one, (1,), {"x": 2}, "takes no argument named 'x'"),
        (one, ("five",), {}, "input.number: Input should be a valid integer"),
        (one, (None,), {}, "got NoneType"),
        (checkout, ({"id": "no"},), {}, "input.order.id: Input should be a valid UUID"),
        (every_kind, (), {"a": 1}, "input.a: Field required"),
        (every_kind, (1, 2, "x"), {}, "input.rest[0]: Input should be a valid integer"),
        (every_kind, (1,), {"w": "x"}, "input.named.w: Input should be a valid number"),
    ],
)
def test_arguments_that_do_not_fit_are_invalid_input_in_the_caller(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], detail: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        stored(function, *args, **kwargs)
    assert caught.value.task == function.__name__
    assert detail in caught.value.detail


def test_invalid_input_shows_types_and_limits_but_no_value() -> None:
    def narrow(code: Annotated[str, Field(max_length=3)], number: Annotated[int, Field(le=10)]) -> None: ...

    with pytest.raises(InvalidInput) as caught:
        stored(narrow, "s3cret-value", 4_242)
    detail = caught.value.detail
    assert "input.code: String should have at most 3 characters, got str" in detail
    assert "input.number: Input should be less than or equal to 10, got int" in detail
    assert "s3cret" not in detail
    assert "4242" not in detail


def test_many_errors_are_counted_instead_of_listed() -> None:
    def many(numbers: list[int]) -> None: ...

    with pytest.raises(InvalidInput, match=r"; and 97 more$"):
        stored(many, ["x"] * 100)
    with pytest.raises(InvalidInput, match=r"input.numbers\[2\]: Input .* got str$"):
        stored(many, ["x"] * 3)


def order_of(*items: Item) -> Order:
    return ORDER.model_copy(update={"items": list(items)})


@pytest.mark.parametrize(
    ("function", "args", "path"),
    [
        (checkout, (order_of(*[Item(price=1)] * 3, Item(price=NAN)),), "input.order.items[3].price"),
        (checkout, (order_of(Item(price=1, meta={"x": {1: 2}})),), "input.order.items[0].meta.x"),
        (untyped, ("a\0",), "input.value"),
        (untyped, (1, ["\ud800"]), "input.other[0]"),
        (untyped, (1, threading.Lock()), "input.other"),
        (every_kind, (1, 2, 3, 10**5_000), "input.rest[1]"),
    ],
    ids=range(6),
)
def test_an_argument_that_cannot_be_stored_is_refused_with_its_path(
    function: Callable[..., Any], args: tuple[Any, ...], path: str
) -> None:
    with pytest.raises(SerializationError) as caught:
        stored(function, *args)
    assert caught.value.path == path


def test_a_lone_surrogate_in_an_annotated_text_is_a_serialization_error() -> None:
    def greet(names: list[str]) -> None: ...

    with pytest.raises(SerializationError, match=r"^input.names\[1\] contains a lone surrogate"):
        stored(greet, ["a", "\ud800"])


def test_an_input_above_the_limit_is_refused() -> None:
    form = Codec(Limits(max_payload_bytes=1024)).signature(untyped)
    with pytest.raises(PayloadTooLarge, match=r"^input takes 1025 bytes as JSON, the limit is 1024"):
        form.bind_and_dump(("x" * (1025 - len('{"value":""}')),), {})


def test_an_argument_may_use_the_whole_depth() -> None:
    value: list[Any] = []
    for _ in range(99):
        value = [value]
    assert called(untyped, value) == ((), {"value": value})
    with pytest.raises(SerializationError, match=r"^input is nested deeper than 100 levels"):
        stored(untyped, [value])


def test_defaults_are_not_stored_so_they_are_those_of_the_code_that_runs() -> None:
    assert stored(checkout, ORDER) == stored(checkout, order=ORDER)
    assert '"copies"' not in stored(checkout, ORDER)


def test_a_parameter_with_a_default_can_be_added_while_old_inputs_wait() -> None:
    def older(a: int) -> None: ...
    def newer(a: int, b: int = 2) -> None: ...

    assert signature(newer).load(stored(older, 1)) == ((), {"a": 1})


def test_an_input_of_another_version_is_invalid_and_names_the_difference() -> None:
    def older(a: int) -> None: ...
    def newer(a: int, b: int) -> None: ...

    with pytest.raises(InvalidInput, match=r"input.b: Extra inputs are not permitted"):
        signature(older).load(stored(newer, 1, 2))
    with pytest.raises(InvalidInput, match=r"input.b: Field required"):
        signature(newer).load(stored(older, 1))


@dataclass
class Wider:
    x: int


def test_a_field_that_a_dataclass_lost_does_not_make_old_inputs_unreadable() -> None:
    def take(value: Wider) -> None: ...

    assert signature(take).load('{"value":{"x":1,"gone":2}}') == ((), {"value": Wider(1)})


@pytest.mark.parametrize("text", ["", "null", "[1]", '"x"', "{", '{"number":"x"}', "~codec:AAAA"])
def test_a_stored_input_that_cannot_be_read_is_a_typed_error(text: str) -> None:
    with pytest.raises((InvalidInput, SerializationError)):
        signature(one).load(text)


@validated_dataclass
class Careful:
    number: int

    @field_validator("number")
    @classmethod
    def check(cls, number: int) -> int:
        if number > 5:
            raise KeyError("boom")
        return number


def test_a_validator_that_raises_something_else_is_invalid_input() -> None:
    def take(value: Careful) -> None: ...

    with pytest.raises(InvalidInput, match=r"a validator raised KeyError"):
        stored(take, {"number": 7})
    with pytest.raises(InvalidInput, match=r"a validator raised KeyError"):
        signature(take).load('{"value":{"number":7}}')
    with pytest.raises(SerializationError, match=r"^state could not be validated: KeyError was raised"):
        CODEC.value(Careful).dump(cast("Careful", {"number": 7}), "state")
    with pytest.raises(SerializationError, match=r"^the stored value could not be read: KeyError was raised"):
        CODEC.value(Careful).load('{"number":7}')


def test_annotations_as_text_are_resolved_in_the_module_of_the_function() -> None:
    @functools.wraps(checkout)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return checkout(*args, **kwargs)

    assert called(wrapped, ORDER, note="x") == ((), {"order": ORDER, "note": "x"})
    partly = functools.partial(checkout, note="preset")
    assert called(partly, ORDER) == ((), {"order": ORDER})


class Handler:
    def method(self, order: Order) -> None: ...

    def __call__(self, order: Order) -> None: ...


@pytest.mark.parametrize("function", [Handler().method, Handler()])
def test_methods_and_callable_objects_leave_self_out(function: Callable[..., Any]) -> None:
    assert called(function, ORDER) == ((), {"order": ORDER})


class Options(TypedDict):
    level: int


def unresolved(value: OnlyForTypeCheckers) -> None: ...
def unstorable(fine: int, lock: threading.Event) -> None: ...
def bad_result(fine: int) -> threading.Event: ...  # type: ignore[empty-body]
def unpacked(**options: Unpack[Options]) -> None: ...


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (unresolved, "task 'unresolved' has an annotation that cannot be resolved: name 'OnlyForTypeCheckers'"),
        (unstorable, "task 'unstorable', lock: .*Event.* cannot be stored as JSON"),
        (bad_result, "result of task 'bad_result': .*Event.* cannot be stored as JSON"),
        (unpacked, "task 'unpacked': Unpack is not supported"),
    ],
)
def test_an_unusable_annotation_is_a_configuration_error_at_first_use(function: Callable[..., Any], why: str) -> None:
    form = signature(function)
    with pytest.raises(ConfigurationError, match=why):
        form.bind_and_dump((1,), {})


def test_the_result_has_the_shape_of_the_return_annotation() -> None:
    assert signature(checkout).result.load(signature(checkout).result.dump(ORDER, "result")) == ORDER
    assert signature(untyped).result.dump([1], "result") == "[1]"
    assert signature(nothing).result.dump(None, "result") == "null"
    with pytest.raises(SerializationError, match=r"^result does not fit its annotation"):
        signature(one).result.dump("x", "result")


class _Plain:
    """A payload codec that changes nothing."""

    def encode(self, data: bytes, /) -> bytes:
        return data

    def decode(self, data: bytes, /) -> bytes:
        return data


def _checked(value: int) -> int:
    return value


@pytest.mark.parametrize(
    "annotation", [int, str, float, bytes, list[int], dict[str, float], int | None, tuple[int, str]]
)
def test_plain_arguments_are_dumped_without_code_of_the_users(annotation: Any) -> None:
    def task(value: Any) -> None: ...

    task.__annotations__["value"] = annotation
    assert CODEC.signature(task).runs_no_user_code
    assert not Codec(hook=_Plain()).signature(task).runs_no_user_code


@pytest.mark.parametrize("annotation", [Order, Item, list[Order], Annotated[int, AfterValidator(_checked)]])
def test_models_and_validators_are_code_of_the_users(annotation: Any) -> None:
    def task(first: int, value: Any) -> None: ...

    task.__annotations__["value"] = annotation
    assert not CODEC.signature(task).runs_no_user_code
