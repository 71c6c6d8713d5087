"""A table in memory that can be looked up by more than its key, and what one transaction changes in it."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, Generic, TypeVar

__all__ = ["Index", "Overlay", "Table"]

K = TypeVar("K")
V = TypeVar("V")


class Index(Generic[K, V]):
    """The rows of a table by group, each group in order; a row whose group is None is in none.

    `order` must tell any two rows of a group apart.
    """

    def __init__(self, group: Callable[[K, V], Hashable | None], order: Callable[[K, V], tuple[Any, ...]]) -> None:
        self._group = group
        self._order = order
        self._entries: dict[Hashable, list[tuple[tuple[Any, ...], K]]] = {}

    def like(self) -> Index[K, V]:
        """An empty one of the same groups and orders."""
        return Index(self._group, self._order)

    def add(self, key: K, value: V) -> None:
        group = self._group(key, value)
        if group is not None:
            insort(self._entries.setdefault(group, []), (self._order(key, value), key))

    def remove(self, key: K, value: V) -> None:
        group = self._group(key, value)
        if group is not None:
            entries = self._entries[group]
            del entries[bisect_left(entries, (self._order(key, value), key))]
            if not entries:
                del self._entries[group]

    def of(self, group: Hashable) -> list[tuple[tuple[Any, ...], K]]:
        return self._entries.get(group, [])


class Table(dict[K, V]):
    """A dict that keeps its indexes; to be changed by item and by `pop` only."""

    def __init__(self, **indexes: Index[K, V]) -> None:
        super().__init__()
        self.indexes = indexes

    def __setitem__(self, key: K, value: V) -> None:
        before = self.get(key)
        super().__setitem__(key, value)
        for index in self.indexes.values():
            if before is not None:
                index.remove(key, before)
            index.add(key, value)

    def pop(self, key: K, default: Any = None) -> Any:
        if key not in self:
            return default
        value = super().pop(key)
        for index in self.indexes.values():
            index.remove(key, value)
        return value


class Overlay(Generic[K, V]):
    """A dict together with what one transaction changes in it; the dict itself changes at `commit` only."""

    def __init__(self, base: dict[K, V]) -> None:
        self._base = base
        self._changes: dict[K, V | None] = {}
        self._indexes: Mapping[str, Index[K, V]] = base.indexes if isinstance(base, Table) else {}
        self._changed: dict[str, Index[K, V]] = {}
        """The same indexes of what was changed."""

    def get(self, key: K) -> V | None:
        return self._changes[key] if key in self._changes else self._base.get(key)

    def put(self, key: K, value: V) -> None:
        self._forget(key)
        self._changes[key] = value
        for name, index in self._indexes.items():
            self._changed.setdefault(name, index.like()).add(key, value)

    def remove(self, key: K) -> None:
        self._forget(key)
        self._changes[key] = None

    def _forget(self, key: K) -> None:
        changed = self._changes.get(key)
        if changed is not None:
            for index in self._changed.values():
                index.remove(key, changed)

    def find(self, index: str, group: Hashable) -> Iterator[V]:
        """The rows of a group in its order, one after the other: who needs the first looks at no more of them."""
        return (value for _, value in self.find_items(index, group))

    def find_items(self, index: str, group: Hashable) -> Iterator[tuple[K, V]]:
        stored = (entry for entry in self._indexes[index].of(group) if entry[1] not in self._changes)
        changed = self._changed.get(index)
        for _, key in heapq.merge(stored, [] if changed is None else [*changed.of(group)]):
            value = self.get(key)
            assert value is not None
            yield key, value

    def items(self) -> Iterator[tuple[K, V]]:
        """In order of insertion. Collect them before changing anything."""
        for key, value in self._base.items():
            current = self._changes.get(key, value)
            if current is not None:
                yield key, current
        for key, added in self._changes.items():
            if added is not None and key not in self._base:
                yield key, added

    def values(self) -> Iterator[V]:
        """As items. A transaction that has changed nothing, as most that look at all records, has the dict itself."""
        return (value for _, value in self.items()) if self._changes else iter(self._base.values())

    def commit(self) -> None:
        for key, value in self._changes.items():
            if value is None:
                self._base.pop(key, None)
            else:
                self._base[key] = value
