"""Values round-trip by their annotations, and what JSON in Postgres cannot hold is refused with its place."""

import asyncio
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, Optional
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, RootModel, SecretStr, computed_field, field_serializer
from typing_extensions import TypedDict

from durable.codec import Codec, Limits, Shape
from durable.errors import ConfigurationError, PayloadTooLarge, SerializationError

CODEC = Codec()
NAN = float("nan")
NOON = datetime(2031, 5, 6, 12, 0, 0, 123456, tzinfo=UTC)


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    YES = "yes"


class Pair(Enum):
    BOTH = (1, 2)


class Point(NamedTuple):
    x: int
    y: float


@dataclass
class Line:
    price: float
    blob: bytes = b""
    meta: Any = None


class Bag(TypedDict):
    when: datetime
    raw: bytes


class Item(BaseModel):
    price: float
    meta: dict[str, Any] = {}


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: UUID
    items: list[Item] = []
    by_number: dict[int, Decimal] = {}
    kind: Literal["new", "old"] = Field("new", alias="orderKind")

    @computed_field
    def count(self) -> int:
        return len(self.items)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Cat(BaseModel):
    kind: Literal["cat"] = Field("cat", alias="petKind")
    name: str


class Dog(BaseModel):
    kind: Literal["dog"] = Field("dog", alias="petKind")
    name: str


class Left(BaseModel):
    x: int


class Right(BaseModel):
    x: int


class Tree(BaseModel):
    name: str
    children: list["Tree"] = []
    meta: Any = None


class Tags(RootModel[set[str]]):
    pass


@dataclass
class Twice:
    left: Item
    right: Item


def shape(annotation: Any) -> Shape[Any]:
    return CODEC.value(annotation)


def refusal(annotation: Any, value: Any) -> SerializationError:
    with pytest.raises(SerializationError) as caught:
        shape(annotation).dump(value, "result")
    return caught.value


ORDER = Order(
    id=UUID(int=5),
    items=[Item(price=0.1, meta={"a": [1, None, {"b": "c"}]})],
    by_number={1: Decimal("1.10"), -2: Decimal("2")},
    orderKind="old",
)

ROUND_TRIPS: list[tuple[Any, Any]] = [
    (int, 2**63),
    (int, -(10**4_000)),
    (float, 0.1),
    (float, 1e308),
    (bool, True),
    (str, "a\\u0000 \N{SNOWMAN} \N{GRINNING FACE} \x01 \x7f"),
    (None, None),
    (Optional[int], None),  # noqa: UP045 - both spellings are users' spellings
    (int | None, 3),
    (bytes, bytes(range(256))),
    (UUID, UUID(int=7)),
    (datetime, NOON),
    (datetime, datetime(2031, 5, 6, 12)),  # noqa: DTZ001 - a naive value comes back naive
    (date, date(2031, 5, 6)),
    (time, time(1, 2, 3, 4)),
    (timedelta, timedelta(days=-1, microseconds=3)),
    (Decimal, Decimal("1.10")),
    (Color, Color.RED),
    (Level, Level.LOW),
    (Word, Word.YES),
    (Literal["a", 1, None], 1),
    (set[int], {1, 2}),
    (frozenset[str], frozenset({"a", "b"})),
    (set[tuple[int, str]], {(1, "a"), (2, "b")}),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2, 3)),
    (list[bytes], [b"\xff"]),
    (deque[int], deque([1, 2])),
    (dict[int, str], {1: "a", 2: "b"}),
    (dict[UUID, int], {UUID(int=1): 1}),
    (dict[date, int], {date(2031, 1, 1): 1}),
    (dict[Color, int], {Color.RED: 1}),
    (dict[bool, int], {True: 1}),
    (dict[float, int], {0.5: 1}),
    (Mapping[str, int], {"a": 1}),
    (OrderedDict[str, int], OrderedDict(b=1, a=2)),
    (Counter[str], Counter("aab")),
    (Sequence[int], [1, 2]),
    (Point, Point(1, 2.5)),
    (Line, Line(1.5, b"\xff\x00", {"a": 1})),
    (list[Line], [Line(1.5, b"\xff\x00")]),
    (Bag, {"when": NOON, "raw": b"\xff"}),
    (Order, ORDER),
    (dict[str, list[Order | None]], {"x": [ORDER, None]}),
    (Open, Open(a=1, b=[{"c": None}])),  # type: ignore[call-arg]
    (Annotated[Cat | Dog, Field(discriminator="kind")], Dog(petKind="dog", name="x")),
    (Left | Item, Item(price=1.0)),
    (int | str, "1"),
    (int | float, 1.0),
    (Decimal | float, Decimal("1.5")),
    (UUID | str, "no uuid"),
    (Tree, Tree(name="a", children=[Tree(name="b", meta={"k": [1]}), Tree(name="c")])),
    (Tags, Tags({"b", "a"})),
    (Twice, Twice(Item(price=1.0), Item(price=2.0))),
    (IPv4Address, IPv4Address("10.0.0.1")),
    (PurePosixPath, PurePosixPath("/a/b")),
    (complex, 1 + 2j),
    (Any, {"a": [1, 2.5, "x", None, True, {"b": []}]}),
    (object, "x"),
    (dict, {"a": [{}]}),
    (list, [1, "a", [None]]),
]


@pytest.mark.parametrize(("annotation", "value"), ROUND_TRIPS, ids=range(len(ROUND_TRIPS)))
def test_a_value_comes_back_equal_and_of_the_same_type(annotation: Any, value: Any) -> None:
    form = shape(annotation)
    text = form.dump(value, "result")
    text.encode()
    loaded = form.load(text)
    assert loaded == value
    assert type(loaded) is type(value)


@pytest.mark.parametrize(
    ("value", "loaded"),
    [
        ((1, (2,)), [1, [2]]),
        ([Word.YES, Level.LOW], ["yes", 1]),
        (OrderedDict(a=1), {"a": 1}),
        (Point(1, 2.0), [1, 2.0]),
    ],
)
def test_without_an_annotation_kinds_of_plain_types_come_back_as_the_plain_type(value: Any, loaded: Any) -> None:
    result = shape(Any).load(shape(Any).dump(value, "result"))
    assert result == loaded
    assert type(result) is type(loaded)


async def forgotten() -> None: ...


def with_loop() -> list[Any]:
    loop: list[Any] = []
    loop.append({"again": loop})
    return loop


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
    (Line, Line(Decimal("Infinity")), "result.price", "infinite"),  # type: ignore[arg-type]
    (str, "a\0b", "result", "contains NUL"),
    (Any, {"a": {"b\0": 1}}, "result.a", "has a key that contains NUL"),
    (dict[str, str], {"a": "\\", "b": "\\\0"}, "result.b", "contains NUL"),
    (Line, Line(1.0, b"\0", ["\0"]), "result.meta[0]", "contains NUL"),
    (str, "\ud800", "result", "lone surrogate"),
    (list[str], ["a", "\udfff"], "result[1]", "lone surrogate"),
    (Any, {"k": ["\ud800"]}, "result.k[0]", "lone surrogate"),
    (Any, {"\ud800": 1}, "result", "has a key that contains a lone surrogate"),
    (int, 10**5_000, "result", "4300 digits"),
    (Any, [10**5_000], "result[0]", "4300 digits"),
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
    (Open, Open(a=NOON), "result.a", "type datetime"),  # type: ignore[call-arg]
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
    (list[Line], [Line("x")], "result[0].price", "does not fit its annotation"),  # type: ignore[arg-type]
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
    [(Any, nested(101)), (Any, nested(400)), (Any, nested(100_000)), (Tree, tree(51)), (Tree, tree(150))],
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


class Uneven(BaseModel):
    value: int

    @field_serializer("value")
    def write(self, value: int) -> str:
        return f"<{value}>"


class Explosive(BaseModel):
    value: int

    @field_serializer("value")
    def write(self, value: int) -> str:
        raise RuntimeError("boom")


class Utf8Bytes(BaseModel):
    value: bytes


class Dropped(BaseModel):
    value: int = Field(exclude=True)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (Uneven(value=1), "cannot be read back: result.value: Input should be a valid integer"),
        (Explosive(value=1), "cannot be written as JSON"),
        (Utf8Bytes(value=b"\xff"), 'ser_json_bytes="base64"'),
        (Dropped(value=1), "cannot be read back: result.value: Field required"),
    ],
)
def test_a_model_that_cannot_read_what_it_writes_is_refused_when_it_is_written(value: BaseModel, why: str) -> None:
    assert why in refusal(type(value), value).why


def test_a_dict_is_made_into_the_annotated_model_before_it_is_written() -> None:
    assert shape(Item).dump({"price": "1.5"}, "result") == '{"price":1.5,"meta":{}}'


def test_json_carries_field_names_and_no_computed_fields() -> None:
    text = shape(Order).dump(ORDER, "result")
    assert '"kind":"old"' in text
    assert "orderKind" not in text
    assert "count" not in text


def test_sets_are_written_in_one_order_whatever_order_python_walks_them_in() -> None:
    @dataclass
    class Holder:
        names: set[str] = field(default_factory=set[str])
        groups: list[frozenset[int]] = field(default_factory=list[frozenset[int]])
        order: list[str] = field(default_factory=list[str])

    # Small integers that collide in a set's table come out in the order they went in.
    one = Holder({"b", "a", "c"}, [frozenset([8, 0, 16])], ["z", "y"])
    two = Holder({"c", "b", "a"}, [frozenset([16, 8, 0])], ["z", "y"])
    texts = {shape(Holder).dump(each, "result") for each in (one, two)}
    assert texts == {'{"names":["a","b","c"],"groups":[[0,16,8]],"order":["z","y"]}'}


def test_none_costs_no_more_than_a_constant_and_is_refused_where_it_does_not_fit() -> None:
    assert shape(None).dump(None, "result") == "null"
    assert shape(int | None).load("null") is None
    assert refusal(int, None).path == "result"
    with pytest.raises(SerializationError):
        shape(int).load("null")


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


def test_nothing_in_a_row_chooses_a_class() -> None:
    for text in (
        '{"py/object":"os.system","value":1}',
        '{"__class__":"subprocess.Popen"}',
        '{"module":"os","qualname":"system"}',
    ):
        assert type(shape(Any).load(text)) is dict


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
        (list["Missing"], "Missing"),  # type: ignore[name-defined]  # noqa: F821
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


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=20,
)


def is_storable(value: Any) -> bool:
    """Say independently whether Postgres can hold a value of JSON types."""
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, float):
        return value == value and value not in (float("inf"), -float("inf"))
    if isinstance(value, list):
        return all(map(is_storable, value))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, dict):
        return all(map(is_storable, [*value.keys(), *value.values()]))  # pyright: ignore[reportUnknownArgumentType]
    return True


@settings(deadline=None, max_examples=200)
@given(json_values)
def test_any_json_value_either_comes_back_equal_or_is_refused(value: Any) -> None:
    if is_storable(value):
        text = shape(Any).dump(value, "result")
        assert shape(Any).load(text) == value
        assert b"\\u0000" not in text.replace("\\\\", "").encode()
    else:
        assert refusal(Any, value).path.startswith("result")


typed_values = st.fixed_dictionaries(
    {
        "id": st.uuids(),
        "items": st.lists(st.builds(Item, price=st.floats(allow_nan=False, allow_infinity=False)), max_size=3),
        "by_number": st.dictionaries(st.integers(), st.decimals(allow_nan=False, allow_infinity=False), max_size=3),
        "orderKind": st.sampled_from(["new", "old"]),
    }
).map(lambda fields: Order(**fields))

bags = st.fixed_dictionaries({"when": st.datetimes(timezones=st.just(UTC)), "raw": st.binary()})


@settings(deadline=None, max_examples=50)
@given(
    typed_values,
    bags,
    st.sets(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))),
    st.timedeltas(),
)
def test_typed_values_come_back_equal(order: Order, bag: Bag, words: set[str], length: timedelta) -> None:
    form = shape(tuple[Order, Bag, set[str], timedelta])
    value = (order, bag, words, length)
    assert form.load(form.dump(value, "result")) == value
