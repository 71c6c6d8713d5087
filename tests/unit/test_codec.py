"""Values come back from their stored text equal and of the type that their annotation says."""

from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Optional
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from durable.errors import SerializationError
from tests.unit.payload_models import (
    NOON,
    ORDER,
    Bag,
    Cat,
    Color,
    Dog,
    Item,
    Labelled,
    Left,
    Level,
    Line,
    Open,
    Order,
    Point,
    Tags,
    Tree,
    Twice,
    Word,
    refusal,
    shape,
)

ROUND_TRIPS: list[tuple[Any, Any]] = [
    (int, 2**63),
    (int, 1 - 10**4_300),
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
    (Open, Open.model_validate({"a": 1, "b": [{"c": None}]})),
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
    for loaded in (form.load(text), form.load(form.dump(value, "result"))):  # built at first use, so both ways twice
        assert loaded == value
        assert type(loaded) is type(value)


@pytest.mark.parametrize(
    ("value", "loaded"),
    [
        ((1, (2,)), [1, [2]]),
        ([Word.YES, Level.LOW], ["yes", 1]),
        (OrderedDict[str, int](a=1), {"a": 1}),
        (Point(1, 2.0), [1, 2.0]),
    ],
)
def test_without_an_annotation_kinds_of_plain_types_come_back_as_the_plain_type(value: Any, loaded: Any) -> None:
    result = shape(Any).load(shape(Any).dump(value, "result"))
    assert result == loaded
    assert type(result) is type(loaded)


def test_a_dict_is_made_into_the_annotated_model_before_it_is_written() -> None:
    assert shape(Item).dump({"price": "1.5"}, "result") == '{"price":1.5,"meta":{}}'


def test_json_carries_field_names_and_no_computed_fields() -> None:
    text = shape(Order).dump(ORDER, "result")
    assert '"kind":"old"' in text
    assert "orderKind" not in text
    assert "count" not in text
    assert shape(Labelled).dump({"label": "x"}, "result") == '{"label":"x"}'
    assert shape(Labelled).load('{"label":"x"}') == {"label": "x"}


def test_sets_are_written_in_one_order_whatever_order_python_walks_them_in() -> None:
    @dataclass
    class Holder:
        names: set[str] = field(default_factory=set[str])
        groups: list[frozenset[int]] = field(default_factory=list[frozenset[int]])
        order: list[str] = field(default_factory=list[str])
        by_name: dict[str, set[str]] = field(default_factory=dict[str, set[str]])

    # Small integers that collide in a set's table come out in the order they went in.
    one = Holder({"b", "a", "\N{SNOWMAN}"}, [frozenset([8, 0, 16])], ["z", "y"], {"k": {"q", "p", "o"}})
    two = Holder({"\N{SNOWMAN}", "b", "a"}, [frozenset([16, 8, 0])], ["z", "y"], {"k": {"o", "p", "q"}})
    texts = {shape(Holder).dump(each, "result") for each in (one, two)}
    assert texts == {
        '{"names":["a","b","\N{SNOWMAN}"],"groups":[[0,16,8]],"order":["z","y"],"by_name":{"k":["o","p","q"]}}'
    }


def test_none_costs_no_more_than_a_constant_and_is_refused_where_it_does_not_fit() -> None:
    assert shape(None).dump(None, "result") == "null"
    assert shape(int | None).load("null") is None
    assert refusal(int, None).path == "result"
    with pytest.raises(SerializationError):
        shape(int).load("null")


def test_nothing_in_a_row_chooses_a_class() -> None:
    for text in (
        '{"py/object":"os.system","value":1}',
        '{"__class__":"subprocess.Popen"}',
        '{"module":"os","qualname":"system"}',
    ):
        assert type(shape(Any).load(text)) is dict


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


@settings(deadline=None, max_examples=100)
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
).map(Order.model_validate)

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
