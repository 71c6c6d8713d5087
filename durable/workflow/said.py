"""What a workflow has said, as those who read it get it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from durable.codec import Codec
from durable.workflow_rows import Published

__all__ = ["Chunk", "PublishedValues"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Chunk(Generic[T]):
    """A piece of a workflow's streamed output."""

    number: int
    """1, 2, 3 … in the order in which they were stored; give it as `after` to read on from here."""
    value: T
    at: datetime


class PublishedValues(Mapping[str, Any]):
    """What a workflow had published at one moment, by key; read-only. Values are as JSON has them."""

    def __init__(self, codec: Codec, found: Iterable[Published]) -> None:
        self._codec = codec
        self._found = {each.key: each for each in found}

    def __getitem__(self, key: str) -> Any:
        return self._codec.value(Any).load(self._found[key].value, f"published value {key!r}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __repr__(self) -> str:
        return f"PublishedValues({dict(self)!r})"

    def __len__(self) -> int:
        return len(self._found)

    def value(self, key: str, shape: type[T]) -> T | None:
        """The value of a key as a type; None where it was not published. Raises SerializationError."""
        found = self._found.get(key)
        return None if found is None else self._codec.value(shape).load(found.value, f"published value {key!r}")

    def at(self, key: str) -> datetime:
        """When the value was stored; raises KeyError."""
        return self._found[key].at
