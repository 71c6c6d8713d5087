"""Pool: a queue with limits over all executors, as its app declares it and changes it at run time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, Unpack, overload

from durable.context import TaskContext
from durable.decorators import Anything, TaskDecorator
from durable.durations import Duration
from durable.execution_log import LogLevel
from durable.pool_options import DeclaredPool, PoolChanges, changed_pool, report_window
from durable.pool_report import PoolReport, pool_report
from durable.pool_rows import PoolConfig, PoolTally
from durable.retry import Retry
from durable.task import TaskFunction

__all__ = ["Pool", "PoolClient", "SyncPool", "SyncPoolClient"]

P = ParamSpec("P")
R = TypeVar("R")


class PoolClient(Protocol):
    """What a pool asks of an open app."""

    async def pool_config(self, declared: PoolConfig) -> PoolConfig: ...

    async def configure_pool(self, pool: PoolConfig, fields: frozenset[str]) -> PoolConfig: ...

    async def pool_tallies(self, pool: str, over: float) -> list[PoolTally]: ...


class SyncPoolClient(Protocol):
    """The same for a SyncPool."""

    def pool_config(self, declared: PoolConfig) -> PoolConfig: ...

    def configure_pool(self, pool: PoolConfig, fields: frozenset[str]) -> PoolConfig: ...

    def pool_tallies(self, pool: str, over: float) -> list[PoolTally]: ...


class Pool(DeclaredPool):
    """Made by `app.pool(…)`. Tasks declared by `pool.task`, and enqueues with the option `pool`, run within its limits.

    The row of the pool in the database decides, for every executor. It is stored when an app that declares the pool is
    first opened; from then on it is changed by `configure`, `pause` and `resume` alone, and a declaration that says
    otherwise changes nothing.
    """

    def __init__(
        self,
        declared: PoolConfig,
        retry: Retry | None,
        declare: Callable[..., Any],
        client: Callable[[], PoolClient],
    ) -> None:
        super().__init__(declared, retry)
        self._declare = declare
        self._client = client

    @overload
    def task(
        self, function: Callable[Concatenate[Anything, P], Coroutine[Any, Any, R]], /
    ) -> TaskFunction[Concatenate[Any, P], R, Concatenate[Any, P], Coroutine[object, object, R]]: ...
    @overload
    def task(
        self, function: Callable[Concatenate[TaskContext, P], Coroutine[Any, Any, R]], /
    ) -> TaskFunction[P, R, Concatenate[TaskContext, P], Coroutine[object, object, R]]: ...
    @overload
    def task(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> TaskFunction[P, R, P, Coroutine[object, object, R]]: ...
    @overload
    def task(
        self, function: Callable[Concatenate[Anything, P], R], /
    ) -> TaskFunction[Concatenate[Any, P], R, Concatenate[Any, P], R]: ...
    @overload
    def task(
        self, function: Callable[Concatenate[TaskContext, P], R], /
    ) -> TaskFunction[P, R, Concatenate[TaskContext, P], R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> TaskFunction[P, R, P, R]: ...
    @overload
    def task(
        self,
        /,
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        delay: Duration = 0,
        priority: int = 0,
        version: int = 1,
        max_deliveries: int = 5,
        log_level: LogLevel | None = None,
    ) -> TaskDecorator: ...
    def task(self, function: Any = None, /, **options: Any) -> Any:
        """As `app.task`, for a task that runs in this pool; without a `retry` of its own it has the pool's."""
        return self._declare(function, **options, pool=self) if function else self._declare(**options, pool=self)

    async def configure(self, **changes: Unpack[PoolChanges]) -> PoolConfig:
        """Change limits for all executors, from their next claim on; gives what holds then.

        What runs goes on, whatever the limits become. What started under a rate before counts in a new one. Raises
        ConfigurationError; nothing is changed then.
        """
        return await self._client().configure_pool(*changed_pool(self.declared, changes))

    async def pause(self) -> PoolConfig:
        """Start nothing until `resume`; the limits stand."""
        return await self._client().configure_pool(self.declared._replace(is_paused=True), frozenset({"is_paused"}))

    async def resume(self) -> PoolConfig:
        """Go on after `pause`; harmless without one. A max_parallelism of 0 still starts nothing."""
        return await self._client().configure_pool(self.declared._replace(is_paused=False), frozenset({"is_paused"}))

    async def config(self) -> PoolConfig:
        """What holds now."""
        return await self._client().pool_config(self.declared)

    async def report(self, *, over: Duration = "1h") -> PoolReport:
        """What waits and runs in the pool, and what has ended in the time before now, with its rates.

        `over` is from a minute to a day; raises ConfigurationError. It reads what is unfinished in the pool, so it
        takes as long as that is much, and nothing of what has ended but its counts.
        """
        window = report_window(over)
        return pool_report(self.name, window, await self._client().pool_tallies(self.name, window))


class SyncPool:
    """A pool for code without an event loop: `client.pool(emails)`. See Pool."""

    def __init__(self, pool: DeclaredPool, client: SyncPoolClient) -> None:
        self._declared = pool.declared
        self._client = client

    @property
    def name(self) -> str:
        return self._declared.name

    def configure(self, **changes: Unpack[PoolChanges]) -> PoolConfig:
        """See Pool.configure."""
        return self._client.configure_pool(*changed_pool(self._declared, changes))

    def pause(self) -> PoolConfig:
        """See Pool.pause."""
        return self._client.configure_pool(self._declared._replace(is_paused=True), frozenset({"is_paused"}))

    def resume(self) -> PoolConfig:
        """See Pool.resume."""
        return self._client.configure_pool(self._declared._replace(is_paused=False), frozenset({"is_paused"}))

    def config(self) -> PoolConfig:
        """See Pool.config."""
        return self._client.pool_config(self._declared)

    def report(self, *, over: Duration = "1h") -> PoolReport:
        """See Pool.report."""
        window = report_window(over)
        return pool_report(self.name, window, self._client.pool_tallies(self.name, window))
