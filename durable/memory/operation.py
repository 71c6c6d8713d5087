"""One verb with its arguments, not yet run; and the lane, which in memory has nothing of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar

from durable.errors import ConfigurationError
from durable.memory.store import Store, Transaction
from durable.storage import Operation

__all__ = ["MemoryLane", "MemoryOperation"]

T = TypeVar("T")


class MemoryOperation(Generic[T]):
    """See durable.storage.Operation. There is no transaction to join in memory, so `run_on` and `await_on` refuse every
    connection but None: what was applied all the same would be there after the caller's rollback.
    """

    __slots__ = ("_store", "_work")

    def __init__(self, store: Store, work: Callable[[Transaction], T]) -> None:
        self._store = store
        self._work = work

    def __await__(self) -> Generator[Any, None, T]:
        return self._run_in_turn().__await__()

    def run(self) -> T:
        return self._store.run(self._work)

    def run_on(self, connection: Any) -> T:
        _refuse(connection)
        return self.run()

    def await_on(self, connection: Any) -> Awaitable[T]:
        _refuse(connection)
        return self._run_in_turn()

    async def _run_in_turn(self) -> T:
        # Every other storage lets the event loop turn here. Without it a loop of verbs would starve its neighbours,
        # and tests in memory would never see two callers interleave.
        await asyncio.sleep(0)
        return self.run()


def _refuse(connection: Any) -> None:
    if connection is not None:
        raise ConfigurationError(
            "connection= joins a transaction, and the storage in memory has none; leave it out, or use Postgres"
        )


class MemoryLane:
    """Runs operations as they are: nobody waits for a connection in memory."""

    def run(self, operation: Operation[T]) -> T:
        return operation.run()

    def close(self) -> None:
        """Nothing to close; may be called twice."""
