"""How a part of the open app runs an operation of the storage: again and again until the storage serves."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, TypeVar

from durable.storage import Operation

__all__ = ["Patience"]

T = TypeVar("T")


class Patience(Protocol):
    """Runs an operation until the storage serves; `what` says in a log or an error what waits."""

    def __call__(self, operation: Operation[T], what: str, /) -> Awaitable[T]: ...
