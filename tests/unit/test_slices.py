"""What is made a part at a time is complete and in order, and leaves others their turns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from durable.slices import Gradual, in_slices


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 1_000, 3_333])
async def test_all_is_made_in_order(count: int) -> None:
    assert await in_slices(iter(range(count))) == list(range(count))


async def test_others_have_their_turns_meanwhile() -> None:
    made: list[int] = []
    seen: list[int] = []

    def look() -> None:
        seen.append(len(made))
        if len(made) < 3_000:
            asyncio.get_running_loop().call_soon(look)

    asyncio.get_running_loop().call_soon(look)
    await in_slices(made.append(number) for number in range(3_000))
    assert seen == [500, 1_000, 1_500, 2_000, 2_500, 3_000]


async def test_an_error_is_that_of_the_one_that_failed() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_slices(1 // (2_000 - number) for number in range(3_000))


def test_what_is_made_gradually_is_made_when_it_is_asked_for_and_once() -> None:
    made: list[int] = []

    def make() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            yield number

    items = Gradual(make(), 10, at_once=0)
    assert (len(items), made) == (10, [])
    assert (items[2:4], made) == ([2, 3], [0, 1, 2, 3])
    assert (items[1], items[5], made) == (1, 5, [0, 1, 2, 3, 4, 5])
    assert items[:0] == items[4:2] == []
    assert (len(made), list(items), list(items)) == (6, list(range(10)), list(range(10)))
    assert made == list(range(10))


@pytest.mark.parametrize("index", [slice(None), slice(-3, None), slice(2, -2), slice(8, 1, -2), slice(None, None, 3)])
def test_what_is_made_gradually_is_cut_as_a_list(index: slice) -> None:
    assert Gradual(iter(range(10)), 10, at_once=0)[index] == list(range(10))[index]


def test_what_is_made_gradually_ends_where_a_list_does() -> None:
    assert Gradual(iter(range(10)), 10, at_once=0)[-1] == 9
    with pytest.raises(IndexError):
        Gradual(iter(range(10)), 10, at_once=0)[10]


def test_what_cannot_be_made_is_told_to_whoever_asks_for_it() -> None:
    items = Gradual((1 // (3 - number) for number in range(5)), 5, at_once=1)
    assert items[:3] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        items[3:]
