"""What JSON in Postgres cannot hold is refused before it is stored, with the place inside the value."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Annotated, Any, ForwardRef, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, SecretStr

from durable.codec import Codec, Limits
from durable.errors import ConfigurationError, PayloadTooLarge, SerializationError
from tests.unit.payload_models import (
    CODEC,
    NAN,
    NOON,
    ORDER,
    Bag,
    Color,
    Dropped,
    Explosive,
    Item,
    Left,
    Level,
    Line,
    Open,
    Order,
    Pair,
    Point,
    Poisoning,
    Renamed,
    Right,
    Tree,
    Twice,
    Uneven,
    Utf8Bytes,
    refusal,
    shape,
)


async def forgotten() -> None: ...


def with_loop() -> list[Any]:
    loop: list[Any] = []
    loop.append({"again": loop})
    return loop


def line_of(price: Any) -> Line:
    """Give an object that breaks its own annotation, which no dataclass prevents."""
    return Line(price)


MISSING: Any = ForwardRef("Missing")

REFUSALS: list[tuple[Any, Any, str, str]] = [
    (float, NAN, "result", "is NaN"),
    (float, float("inf"), "result", "is infinite"),
    (Any, NAN, "result", "is NaN"),
    (Any, {"a": [0, -float("inf")]}, "result.a[1]", "is infinite"),
    (list[float | None], [None, NAN], "result[1]", "is NaN"),
    (Item, Item(price=NAN), "result.price", "is NaN"),
    (Line, Line(NAN), "result.price", "is NaN"),
    (Point, Point(1, NAN), "result[1]", "is NaN"),
    (dict[float, int], {NAN: 1}, "result", "has a key that is NaN"),
    (Twice, Twice(Item(price=1), Item(price=NAN)), "result.right.price", "is NaN"),
    (Decimal, Decimal("NaN"), "result", "finite"),
    (Line, line_of(Decimal("Infinity")), "result.price", "infinite"),
    (str, "a\0b", "result", "contains NUL"),
    (Any, {"a": {"b\0": 1}}, "result.a", "has a key that contains NUL"),
    (dict[str, str], {"a": "\\", "b": "\\\0"}, "result.b", "contains NUL"),
    (Line, Line(1.0, b"\0", ["\0"]), "result.meta[0]", "contains NUL"),
    (str, "\ud800", "result", "lone surrogate"),
    (list[str], ["a", "\udfff"], "result[1]", "lone surrogate"),
    (Any, {"k": ["\ud800"]}, "result.k[0]", "lone surrogate"),
    (Any, {"\ud800": 1}, "result", "has a key that contains a lone surrogate"),
    (int, 10**5_000, "result", "4300 digits"),
    (Any, [10**4_300 - 1, -(10**4_300)], "result[1]", "4300 digits"),
    (dict[int, int], {10**5_000: 1}, "result", "4300 digits"),
    (Any, {1, 2}, "result", "type set"),
    (Any, {"a": NOON}, "result.a", "type datetime"),
    (Any, [ORDER], "result[0]", "type Order"),
    (Any, Color.RED, "result", "type Color"),
    (Any, {"a b": [b"x"]}, "result['a b'][0]", "type bytes"),
    (Any, threading.Lock(), "result", "type lock"),
    (Any, (number for number in (1, 2)), "result", "type generator"),
    (Item, Item(price=1, meta={"x": [UUID(int=1)]}), "result.meta.x[0]", "type UUID"),
    (Line, Line(1.0, meta={"x": {1}}), "result.meta.x", "type set"),
    (Open, Open.model_validate({"a": NOON}), "result.a", "type datetime"),
    (tuple[int, Any], (1, {2: 3}), "result[1]", "has a key of type int"),
    (tuple[Any, ...], (1, 2, NOON), "result[2]", "type datetime"),
    (tuple[int, Any] | list[Any], [1, 2, NOON], "result[2]", "type datetime"),
    (dict[str, Any] | list[Any], [NOON], "result[0]", "type datetime"),
    (Any, {1: "a", "1": "b"}, "result", "has a key of type int"),
    (Any, {None: 1}, "result", "has a key of type NoneType"),
    (Any, {True: 1}, "result", "has a key of type bool"),
    (dict, {1: 2}, "result", "has a key of type int"),
    (dict[int | str, int], {1: 1, "1": 2}, "result", "has a key of type int"),
    (dict[tuple[int, int], int], {(1, 2): 1}, "result", "has a key of type tuple"),
    (dict[Level, int], {Level.LOW: 1}, "result", "has a key of type Level"),
    (Item, Item.model_construct(price=1.0, meta={"a": {2: 3}}), "result.meta.a", "has a key of type int"),
    (Any, with_loop(), "result[0].again", "contains itself"),
    (Pair, Pair.BOTH, "result", "cannot be read back"),
    (UUID | str, str(UUID(int=1)), "result", "comes back from JSON as UUID"),
    (list[Left | Right], [Right(x=1)], "result[0]", "comes back from JSON as Left"),
    (int, "five", "result", "does not fit its annotation: Input should be a valid integer"),
    (list[Item], [Item(price=1), {"price": "x"}], "result[1].price", "does not fit its annotation"),
    (Item, Item.model_construct(price="x"), "result.price", "does not fit its annotation"),
    (list[Line], [line_of("x")], "result[0].price", "does not fit its annotation"),
    (Renamed, Renamed.model_construct(code="x"), "result.code", "should be a valid integer"),
    (None, 5, "result", "does not fit its annotation"),
    (Bag, {"when": NOON}, "result.raw", "does not fit its annotation"),
    (Literal["a"], "b", "result", "does not fit its annotation"),
    (Annotated[int, Field(gt=0)], -1, "result", "greater than 0"),
]


@pytest.mark.parametrize(("annotation", "value", "path", "why"), REFUSALS, ids=range(len(REFUSALS)))
def test_a_value_that_cannot_be_stored_is_refused_with_its_place(
    annotation: Any, value: Any, path: str, why: str
) -> None:
    error = refusal(annotation, value)
    assert error.path == path
    assert why in error.why


def test_a_coroutine_is_refused_with_the_advice_to_await_it() -> None:
    coroutine = forgotten()
    try:
        assert "is a coroutine, which cannot be stored; await it first" in refusal(Any, coroutine).why
    finally:
        coroutine.close()


def test_an_awaitable_future_is_refused_with_the_advice_to_await_it() -> None:
    loop = asyncio.new_event_loop()
    try:
        assert "await it first" in refusal(Any, [loop.create_future()]).why
    finally:
        loop.close()


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def tree(levels: int) -> Tree:
    value = Tree(name="leaf")
    for _ in range(levels - 1):
        value = Tree(name="node", children=[value])
    return value


def test_the_depth_limit_is_the_last_depth_that_passes() -> None:
    for annotation in (Any, list, list[Any]):
        assert shape(annotation).load(shape(annotation).dump(nested(100), "result")) == nested(100)
    assert shape(Tree).load(shape(Tree).dump(tree(50), "result")) == tree(50)
    wide = [["[" * 1_000, nested(50)] for _ in range(300)]
    assert shape(list[Any]).load(shape(list[Any]).dump(wide, "result")) == wide


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(Any, nested(101)), (Any, nested(400)), (Any, nested(100_000)), (Tree, tree(51)), (Tree, tree(1_000))],
    ids=range(5),
)
def test_a_value_nested_deeper_than_the_limit_is_refused(annotation: Any, value: Any) -> None:
    error = refusal(annotation, value)
    assert (error.path, error.why) == ("result", "is nested deeper than 100 levels")


def test_a_loop_of_models_is_refused() -> None:
    looped = Tree(name="a", children=[Tree(name="b")])
    looped.children[0].children.append(looped)
    assert refusal(Tree, looped).why.startswith("contains itself")


def test_a_refusal_shows_no_value() -> None:
    for annotation, value in [
        (Item, {"price": "s3cret-value"}),
        (Item, Item.model_construct(price="s3cret-value")),
        (UUID | int, "s3cret-value"),
        (Any, {"a": "s3cret-value\0"}),
    ]:
        error = refusal(annotation, value)
        assert "s3cret" not in str(error)
        assert error.__cause__ is None
        assert error.__suppress_context__


def test_a_path_stays_short() -> None:
    value: Any = NAN
    for _ in range(90):
        value = {"k" * 1_000: value}
    assert len(refusal(Any, value).path) < 500


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (Uneven(value=1), "cannot be read back: result.value: Input should be a valid integer"),
        (Explosive(value=1), "cannot be written as JSON"),
        (Poisoning(value="x"), "contains NUL"),
        (Utf8Bytes(value=b"\xff"), 'ser_json_bytes="base64"'),
        (Dropped(value=1), "cannot be read back: result.value: Field required"),
    ],
)
def test_a_model_that_cannot_read_what_it_writes_is_refused_when_it_is_written(value: BaseModel, why: str) -> None:
    assert why in refusal(type(value), value).why


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, ""),
        (int, "[1"),
        (int, '"x"'),
        (Order, '{"id":"no"}'),
        (Any, "[" * 1_000),
        (Any, "nan"),
        (str, '"\\ud800"'),
    ],
)
def test_stored_text_that_does_not_fit_is_a_serialization_error(annotation: Any, text: str) -> None:
    with pytest.raises(SerializationError, match=r"^the stored state"):
        shape(annotation).load(text, "the stored state")


@pytest.mark.parametrize(
    ("annotation", "why"),
    [
        (Iterable[int], "used up"),
        (Iterator[int], "cannot be stored as JSON"),
        (Callable[[], int], "function"),
        (type, "cannot be read back"),
        (type[int], "pass its name"),
        (threading.Event, "cannot be stored as JSON"),
        (SecretStr, "asterisks"),
        (dict[str, list[SecretStr | None]], "asterisks"),
        (list[MISSING], "Missing"),
    ],
)
def test_an_annotation_that_json_can_never_give_is_refused_before_any_value(annotation: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as caught:
        CODEC.value(annotation, "state of job 'sync'").build()
    assert str(caught.value).startswith("state of job 'sync': ")


def test_payloads_above_the_limit_are_refused_and_near_it_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    form = Codec(Limits(max_payload_bytes=2_000, warn_payload_bytes=1_000)).value(str)
    form.dump("x" * 998, "result")
    assert not caplog.records
    form.dump("x" * 999, "state of job 'sync'")
    assert "state of job 'sync' takes 1001 bytes" in caplog.text
    assert "xxx" not in caplog.text
    form.dump("x" * 1_998, "result")
    with pytest.raises(PayloadTooLarge, match="result takes 2001 bytes as JSON, the limit is 2000") as caught:
        form.dump("x" * 1_999, "result")
    assert (caught.value.size, caught.value.limit) == (2_001, 2_000)
    with pytest.raises(PayloadTooLarge):
        form.dump("\N{SNOWMAN}" * 700, "result")


def test_a_payload_may_fill_the_limit_exactly() -> None:
    form = Codec(Limits(max_payload_bytes=5_000)).value(str)
    assert len(form.dump("x" * 4_998, "result")) == 5_000
    with pytest.raises(PayloadTooLarge):
        form.dump("x" * 4_999, "result")


def test_the_limits_have_the_documented_defaults() -> None:
    assert Limits() == Limits(
        max_payload_bytes=1_048_576, warn_payload_bytes=262_144, max_error_bytes=16_384, max_depth=100
    )


def test_one_misfit_is_told_alone_and_several_are_counted() -> None:
    assert refusal(int, "x").why == (
        "does not fit its annotation: Input should be a valid integer, unable to parse string as an integer, got str"
    )
    assert refusal(list[int], ["x", "y", "z"]).why.endswith("got str; and 2 more")


@pytest.mark.parametrize(
    "limits",
    [
        {"max_payload_bytes": 0},
        {"max_payload_bytes": 2**40},
        {"warn_payload_bytes": -1},
        {"max_error_bytes": 10},
        {"max_depth": 0},
        {"max_depth": 1_000},
        {"max_depth": True},
    ],
)
def test_limits_out_of_bounds_are_refused_by_name(limits: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=f"limits.{next(iter(limits))}"):
        Limits(**limits)
