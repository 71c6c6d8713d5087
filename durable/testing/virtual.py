"""Storages that go by a virtual clock, and how one is made from a DSN."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from importlib.metadata import entry_points
from typing import Protocol

from durable.errors import ConfigurationError
from durable.memory import MemoryStorage
from durable.storage import Storage, scheme_of
from durable.testing.clock import VirtualClock

__all__ = ["VirtualMemory", "VirtualStorage", "virtual_storage"]


class VirtualStorage(Protocol):
    """A storage of a test's own, not open, together with the clock that it goes by."""

    @property
    def storage(self) -> Storage: ...

    def now(self) -> datetime:
        """Where the storage's clock stands."""
        ...

    def move_to(self, at: datetime) -> None:
        """Let the storage's clock stand at that moment. Blocks for no longer than one small statement takes."""
        ...


class VirtualMemory:
    """Executions in this process, by a clock that starts at `at`, or at the fixed moment of every VirtualClock."""

    def __init__(self, at: datetime | None = None) -> None:
        self._clock = VirtualClock(at)
        self.storage: Storage = MemoryStorage(self._clock.now)

    def now(self) -> datetime:
        return self._clock.now()

    def move_to(self, at: datetime) -> None:
        self._clock.move_to(at)


@contextmanager
def virtual_storage(
    dsn: str = "memory:", *, schema: str | None = None, at: datetime | None = None
) -> Generator[VirtualStorage]:
    """A fresh storage for a test: in memory, or in a schema of its own on the Postgres that `dsn` names.

    The schema is made here and dropped when the block ends; None gives it a name that nobody else has. Its clock
    starts at `at`, or at the fixed moment of every VirtualClock. Raises ConfigurationError for a scheme nobody serves,
    and StorageUnavailable and its like for a server that cannot be used.
    """
    start = VirtualClock(at).now()
    scheme = scheme_of(dsn)
    found = {entry.name: entry for entry in entry_points(group="durable.virtual_storages")}
    if scheme not in found:
        raise ConfigurationError(
            f"no virtual storage for DSNs of the form {scheme}:…; known: {', '.join(sorted(found))}"
        )
    opener: Callable[..., AbstractContextManager[VirtualStorage]] = found[scheme].load()
    with opener(dsn, schema=schema, at=start) as storage:
        yield storage


@contextmanager
def virtual_memory(dsn: str, *, schema: str | None, at: datetime) -> Generator[VirtualStorage]:
    """What the entry point `durable.virtual_storages` calls for `memory:`."""
    if dsn not in ("memory:", "memory://"):
        raise ConfigurationError("memory: takes no name, each one is private")
    yield VirtualMemory(at)
