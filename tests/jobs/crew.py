"""Several executors on one store by one virtual clock, handlers that take time, and stores that fail at a call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from durable import Durable
from durable.clock import SystemClock
from durable.memory import MemoryStorage
from durable.storage import Storage
from durable.testing import Kit, VirtualStorage, app_under_test
from storage_postgres import PostgresStorage
from storage_postgres.testing.virtual import VirtualPostgres
from tests.flow.place import PATIENCE

__all__ = ["Door", "Elsewhere", "Failing", "Watch", "client_only", "crew", "drained", "elsewhere", "reached", "turned"]


class Elsewhere:
    """A store as another process sees it, by the clock of the first."""

    def __init__(self, virtual: VirtualStorage, storage: Storage) -> None:
        self.storage = storage
        self._virtual = virtual

    def now(self) -> datetime:
        return self._virtual.now()

    def move_to(self, at: datetime) -> None:
        self._virtual.move_to(at)


def elsewhere(virtual: VirtualStorage) -> Elsewhere:
    if isinstance(virtual, VirtualPostgres):
        return Elsewhere(virtual, PostgresStorage(virtual.dsn, schema=virtual.schema, min_size=1, max_size=2))
    assert isinstance(virtual.storage, MemoryStorage)
    return Elsewhere(virtual, virtual.storage.handle())


@asynccontextmanager
async def crew(virtual: VirtualStorage, *apps: Durable, **settings: Any) -> AsyncGenerator[list[Kit]]:
    """An executor for each app, all on one store."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(app_under_test(app, storage=elsewhere(virtual), **settings)) for app in apps
        ]


@asynccontextmanager
async def client_only(virtual: VirtualStorage, app: Durable) -> AsyncGenerator[Durable]:
    """The app on the store, without an executor."""
    with app.override(storage=elsewhere(virtual).storage):
        async with app:
            yield app


async def drained(kits: Sequence[Kit]) -> None:
    """All that is due has run, whichever executor took it."""
    while True:
        await asyncio.gather(*(kit.drain() for kit in kits))
        if not any(kit.executor.held for kit in kits):
            return


class Watch(SystemClock):
    """The clock of a process in which a handler can take virtual time."""

    def __init__(self, virtual: VirtualStorage, ahead: float = 0.0) -> None:
        self._virtual = virtual
        self._ahead = ahead

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def take(self, minutes: float) -> None:
        """So long a handler takes."""
        self._ahead += minutes * 60
        self._virtual.move_to(self._virtual.now() + timedelta(minutes=minutes))


class Door:
    """Where a handler stops until the test lets it go on; `is_deaf` handlers do not stop when they are told to."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self._opened = asyncio.Event()

    async def hold(self, *, is_deaf: bool = False) -> None:
        self.entered.set()
        while not self._opened.is_set():
            try:
                await self._opened.wait()
            except asyncio.CancelledError:
                if not is_deaf:
                    raise

    def open(self) -> None:
        self._opened.set()


async def reached(door: Door) -> None:
    async with asyncio.timeout(PATIENCE):
        await door.entered.wait()


async def turned() -> None:
    """Let every other task of the event loop go on."""
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    await event.wait()


class Failing:
    """A verb of a store that fails for the first calls: before it is carried out, or when its answer is on its way."""

    def __init__(self, storage: Storage, verb: str, error: Exception, *, times: int, is_done: bool = False) -> None:
        self._make: Callable[..., Any] = getattr(storage, verb)
        self._error = error
        self._left = times
        self._is_done = is_done
        self.failed = asyncio.Event()
        setattr(storage, verb, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        operation = self._make(*args, **kwargs)
        if not self._left:
            return operation
        self._left -= 1
        return _Failure(self._run(operation))

    async def _run(self, operation: Any) -> None:
        if self._is_done:
            await operation
        if not self._left:
            self.failed.set()
        raise self._error


class _Failure:
    def __init__(self, run: Any) -> None:
        self._run = run

    def __await__(self) -> Generator[Any, None, Any]:
        return self._run.__await__()  # type: ignore[no-any-return]
