"""Which pools an executor serves: those of its app, as they are declared, and those it was told by name."""

from __future__ import annotations

from collections.abc import Callable, Collection

from durable.execution import DEFAULT_QUEUE
from durable.settings import ExecutorSettings
from durable.storage import Storage

__all__ = ["ServedPools"]


class ServedPools:
    """Read before every claim; a pool that is declared while the executor runs is served from then on."""

    def __init__(self, settings: ExecutorSettings, declared: Callable[[], Collection[str]]) -> None:
        self._settings = settings
        self._declared = declared
        self._found: tuple[str, ...] = ()

    def __call__(self) -> tuple[str, ...]:
        if self._settings.pools is not None:
            return self._settings.pools
        declared = self._declared()
        if not declared and not self._found:
            return ()
        return tuple(dict.fromkeys((*declared, *self._found)))

    async def look(self, storage: Storage) -> bool:
        """Find the pools among the queues served; the rest of those are queues. True when there are others than before.

        One stored later is found by the next look. The default queue is not looked up: an app that has a pool of that
        name declares it.
        """
        names = [queue for queue in self._settings.queues if queue != DEFAULT_QUEUE]
        if not names or self._settings.pools is not None:
            return False
        before, self._found = self._found, tuple(pool.name for pool in await storage.pools(names))
        return self._found != before
