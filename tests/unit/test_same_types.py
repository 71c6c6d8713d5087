"""What was read back is compared by type at every place; values, and kinds that pydantic exchanges, do not count."""

from collections import OrderedDict
from datetime import date
from typing import Any
from uuid import UUID

import pytest

from durable.codec.rules import Refused
from durable.codec.same_types import find_changed_type
from tests.unit.payload_models import NOON, Item, Left, Right, Word


class Better(Left):
    pass


@pytest.mark.parametrize(
    ("value", "loaded"),
    [
        (1, 2),
        ((1, 2), [1, 2]),
        ([1], (1,)),
        ({1}, frozenset({1})),
        (OrderedDict[str, int](a=1), {"a": 1}),
        (Word.YES, "yes"),
        (Better(x=1), Left(x=1)),
        ([Left(x=1), {"a": (1,)}], [Left(x=2), {"a": [1]}]),
        ({"a": 1}, {}),
    ],
)
def test_these_count_as_the_same(value: Any, loaded: Any) -> None:
    find_changed_type(value, loaded)


@pytest.mark.parametrize(
    ("value", "loaded", "place"),
    [
        (UUID(int=1), str(UUID(int=1)), ""),
        (Right(x=1), Left(x=1), ""),
        (Left(x=1), Better(x=1), ""),
        (NOON, date(2031, 5, 6), ""),
        (True, 1, ""),
        ([1], {1}, ""),
        ({"a": 1}, [1], ""),
        ({"a": [1, UUID(int=1)]}, {"a": [1, "x"]}, ".a[1]"),
        (Item(price=1, meta={"k": (1, b"x")}), Item(price=1, meta={"k": [1, "x"]}), ".meta.k[1]"),
    ],
)
def test_these_are_refused_with_their_place(value: Any, loaded: Any, place: str) -> None:
    with pytest.raises(Refused, match="comes back from JSON as") as caught:
        find_changed_type(value, loaded)
    assert caught.value.path("") == place
