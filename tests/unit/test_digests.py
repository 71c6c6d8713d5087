"""Digests of arguments: equal data has one digest in every process, other data another, and nothing raises."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import PurePosixPath
from typing import Any, Final
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, RootModel

from durable.digests import digest


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Word(StrEnum):
    YES = "yes"


class Rank(IntEnum):
    FIRST = 1


@dataclass
class Point:
    x: int
    y: Any
    seen: list[Any] = field(default_factory=list[Any], compare=False)


@dataclass
class PointWithMore:
    x: int
    y: Any
    label: str = "none"
    tags: list[str] = field(default_factory=list[str])


class Order(BaseModel):
    id: int
    lines: list[str]


class OrderWithMore(BaseModel):
    id: int
    lines: list[str]
    note: str | None = None
    tags: set[str] = Field(default_factory=set[str])


class Names(RootModel[list[str]]):
    pass


class Opaque:
    def __init__(self, value: int) -> None:
        self.value = value


class Rude:
    """Whatever is asked of it raises."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return object.__getattribute__(self, name)
        raise RuntimeError(name)


MOMENT: Final = datetime(2031, 1, 1, tzinfo=UTC)
ID: Final = UUID(int=7)
EQUAL: Final[list[tuple[tuple[Any, ...], tuple[Any, ...]]]] = [
    ((1, "a", None), (1, "a", None)),
    (([1, 2],), ((1, 2),)),
    (({"a": 1, "b": 2},), ({"b": 2, "a": 1},)),
    (({"a": 1},), (OrderedDict(a=1),)),
    (({"b", "a", "c"},), (frozenset({"c", "b", "a"}),)),
    (({(1, "a"), (2, "b")},), ({(2, "b"), (1, "a")},)),
    (({1: "a", "b": {ID: 1}},), ({"b": {ID: 1}, 1: "a"},)),
    ((Point(1, {"u", "v"}, [1]),), (Point(1, {"v", "u"}),)),
    ((Point(1, 2),), (PointWithMore(1, 2),)),
    ((Order(id=1, lines=["a"]),), (OrderWithMore(id=1, lines=["a"]),)),
    ((Opaque(1),), (Opaque(2),)),
    ((threading.Lock(),), (threading.Lock(),)),
    ((lambda: 1,), (lambda: 2,)),
]
DIFFERENT: Final[list[tuple[Any, ...]]] = [
    (1,),
    (2,),
    (1.5,),
    ("1",),
    (True,),
    (None,),
    (1, None),
    ([1],),
    ([1, 2],),
    ([2, 1],),
    ({"a": 1},),
    ({"a": 2},),
    ({"a"},),
    ({"a", "b"},),
    (b"a",),
    (b"b",),
    (MOMENT,),
    (MOMENT + timedelta(microseconds=1),),
    (date(2031, 1, 1),),
    (timedelta(seconds=1),),
    (Decimal("1.20"),),
    (Decimal("1.2"),),
    (ID,),
    (Colour.RED,),
    (Colour.BLUE,),
    (PurePosixPath("/a"),),
    (Point(1, 2),),
    (Point(1, 3),),
    (PointWithMore(1, 2, "some"),),
    (PointWithMore(1, 2, tags=["x"]),),
    (Order(id=1, lines=["a"]),),
    (Order(id=1, lines=["b"]),),
    (OrderWithMore(id=1, lines=["a"], note="x"),),
    (Names(["a"]),),
    ({ID: 1},),
    ({ID: 2},),
    ({1: 1, "a": ID},),
    (10**5000,),
    (10**5001,),
    ("\ud800",),
    (Opaque(1),),
    (Opaque,),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal_data_has_one_digest(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert digest(one) == digest(other)


def test_other_data_has_another_digest() -> None:
    digests = [digest(args) for args in DIFFERENT]
    assert len(set(digests)) == len(DIFFERENT)
    assert {len(each) for each in digests} == {16}


def test_names_of_arguments_count_and_their_order_does_not() -> None:
    assert digest((1,), {"a": 1, "b": 2}) == digest((1,), {"b": 2, "a": 1})
    assert len({digest((1,), {"a": 1}), digest((1,), {"b": 1}), digest((1,)), digest((), {"a": 1})}) == 4
    assert digest(()) == digest((), {}) == ""


def test_a_generator_is_not_touched() -> None:
    def numbers() -> Iterator[int]:
        yield from (1, 2)

    given = numbers()
    assert digest((given,)) == digest((numbers(),))
    assert list(given) == [1, 2]


def test_nothing_raises_and_what_is_beside_it_counts() -> None:
    circle: list[Any] = [1]
    circle += [circle, circle]
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    for strange in (circle, deep, Rude(), {ID: Rude()}, {1: circle, "a": circle}, Point(1, circle)):
        assert digest((strange, 1)) != digest((strange, 2))
        assert digest((strange, 1)) == digest((strange, 1))


def test_texts_and_numbers_that_are_enums_are_their_values() -> None:
    assert digest((Word.YES, Rank.FIRST)) == digest(("yes", 1))


_PROGRAM: Final = """
from durable.digests import digest
from tests.unit.test_digests import DIFFERENT, EQUAL
print(*(digest(each) for each in DIFFERENT), *(digest(one) for one, _ in EQUAL))
"""


@pytest.mark.parametrize("seed", ["1", "2"])
def test_every_process_comes_to_the_same(seed: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == [*(digest(each) for each in DIFFERENT), *(digest(one) for one, _ in EQUAL)]
