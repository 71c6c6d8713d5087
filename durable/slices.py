"""Make many things a part at a time, so that nobody has to wait for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeVar, overload

__all__ = ["Gradual", "in_slices"]

T = TypeVar("T")

_SLICE: Final = 500
"""Of what takes some microseconds each: a millisecond or two."""


async def in_slices(items: Iterable[T]) -> list[T]:
    """The items as a list; after so many of them, whatever else is ready to run on the loop has its turn."""
    source = iter(items)
    made: list[T] = []
    while part := list(islice(source, _SLICE)):
        made += part
        if len(part) == _SLICE:
            await asyncio.sleep(0)
    return made


class Gradual(Sequence[T]):
    """So many items, each made when it, or one behind it, is first asked for; in order, and once.

    The first ones are made at once, so that what is wrong with few is told before anything else is begun.
    """

    __slots__ = ("_count", "_made", "_source")

    def __init__(self, source: Iterator[T], count: int, *, at_once: int = 2 * _SLICE) -> None:
        self._source = source
        self._count = count
        self._made = list(islice(source, at_once))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        return iter(self._up_to(self._count))

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        found = range(self._count)[index]
        if isinstance(found, int):
            return self._up_to(found + 1)[found]
        made = self._up_to(max(found[0], found[-1]) + 1 if found else 0)
        return made[found.start : found.stop] if found.step == 1 else [made[place] for place in found]

    def _up_to(self, count: int) -> list[T]:
        self._made += islice(self._source, max(0, count - len(self._made)))
        return self._made
