"""A storage whose executor dies right after one of its durable writes, whose answer it never sees."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

from durable.execution import Claimed
from durable.storage import Storage
from durable.testing.virtual import VirtualStorage
from durable.workflow_rows import Checkpoint

__all__ = ["DeathFilter", "ExecutorKilled", "Life", "MortalClock", "MortalStorage"]

_WRITES: Final = frozenset({"checkpoint", "settle"})
_OF_EXECUTORS: Final = _WRITES | {
    "children",
    "claim",
    "claim_callback",
    "claim_pooled",
    "count_starts",
    "heartbeat",
    "histories",
    "recover",
    "settled",
    "take_turns",
}
"""What clients do not ask for: all of it fails once the executor is dead."""


class ExecutorKilled(Exception):
    """The executor is dead: nothing of it reaches the storage any more."""


class Life:
    """How many durable writes an executor has made, and after which of them it dies; None: it does not."""

    def __init__(self, last_write: int | None) -> None:
        self.writes: list[str] = []
        self.claimed: list[Claimed] = []
        self.died = asyncio.Event()
        self.killed_after: str | None = None
        """The write after which it died."""
        self.streaming: set[str] = set()
        """Workflows whose steps have streamed something."""
        self.said: dict[str, int] = {}
        """How often the body of each has said something, as far as that is stored."""
        self._last_write = last_write

    def check(self) -> None:
        if self.died.is_set():
            raise ExecutorKilled

    def wrote(self, what: str) -> None:
        self.check()
        self.writes.append(what)
        if len(self.writes) == self._last_write:
            self.killed_after = what
            self.died.set()
            raise ExecutorKilled

    def revive(self) -> None:
        """Another executor begins, which lives on."""
        self.claimed = []
        self._last_write = None
        self.died = asyncio.Event()


class MortalClock:
    """A storage and its clock, which stands still from the executor's death on until another one begins.

    A dead executor holds nothing and looks idle, and the next is to go on at the same moment.
    """

    def __init__(self, virtual: VirtualStorage, life: Life) -> None:
        self._virtual = virtual
        self._life = life

    @property
    def storage(self) -> Storage:
        return self._virtual.storage

    def now(self) -> datetime:
        return self._virtual.now()

    def move_to(self, at: datetime) -> None:
        """Raises ExecutorKilled."""
        self._life.check()
        self._virtual.move_to(at)


class DeathFilter(logging.Filter):
    """Keeps what an executor says of its own planned death out of the log."""

    def __init__(self, life: Life) -> None:
        super().__init__()
        self._life = life

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        args = record.args if isinstance(record.args, tuple) else ()
        return not (self._life.died.is_set() or any(isinstance(each, ExecutorKilled) for each in (error, *args)))


class MortalStorage:
    """Another storage, as it looks to an executor that lives for so long."""

    def __init__(self, storage: Storage, life: Life) -> None:
        self._storage = storage
        self._life = life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._storage, name)
        if name not in _OF_EXECUTORS:
            return found
        verb: Callable[..., Any] = found

        def make(*args: Any, **kwargs: Any) -> _MortalOperation:
            if name == "checkpoint":
                self._note_streams(*args)
            return _MortalOperation(verb(*args, **kwargs), name, self._life)

        return make

    def _note_streams(self, checkpoints: Sequence[Checkpoint]) -> None:
        """An entry of the same checkpoint counts what the body has said by then. Steps stream the rest."""
        for each in checkpoints:
            before = self._life.said.get(each.id, 0)
            now = max((int(entry.key) for entry in each.entries if entry.kind == "said"), default=before)
            self._life.said[each.id] = now
            if len(each.chunks) > now - before:
                self._life.streaming.add(each.id)

    @asynccontextmanager
    async def transaction(self, connection: Any = None) -> AsyncGenerator[Any]:
        self._life.check()
        async with self._storage.transaction(connection) as opened:
            yield opened
        if connection is None:  # a part of a transaction commits nothing
            self._life.wrote("commit")


class _MortalOperation:
    def __init__(self, operation: Any, name: str, life: Life) -> None:
        self._operation = operation
        self._name = name
        self._life = life

    def __await__(self) -> Generator[Any, None, Any]:
        return self._run(self._operation).__await__()

    def run(self) -> Any:
        return self._operation.run()

    def run_on(self, connection: Any) -> Any:
        return self._operation.run_on(connection)

    def await_on(self, connection: Any) -> Awaitable[Any]:
        return self._run(self._operation.await_on(connection))

    async def _run(self, awaitable: Awaitable[Any]) -> Any:
        self._life.check()
        result = await awaitable
        if self._name in _WRITES:
            self._life.wrote(self._name)
        elif self._name == "claim":
            self._life.claimed += result
        elif self._name == "claim_pooled":
            self._life.claimed += result.claimed
        return result
