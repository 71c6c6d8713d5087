"""How a case of the contract of pools sets its stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from durable.execution import Claimed, Status
from durable.pool_rows import PoolConfig, PooledClaim
from durable.storage import ExecutionFilter
from durable.testing.contract.scene import EXECUTOR, LEASE, TASK, Scene

__all__ = ["POOL", "PoolScene", "pool"]

POOL: Final = "emails"


def pool(**fields: Any) -> PoolConfig:
    """A pool without limits, but for one execution at a time of each key; `fields` win."""
    return PoolConfig(POOL, None, 1, True, None, None, False)._replace(**fields)


class PoolScene:
    """A scene with one pool in it."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.storage = scene.storage

    async def open(self, **fields: Any) -> PoolConfig:
        (stored,) = await self.storage.ensure_pools([pool(**fields)])
        return stored

    async def configure(self, **fields: Any) -> PoolConfig:
        return await self.storage.configure_pool(pool(**fields), fields=fields)

    async def enqueue(self, count: int = 1, **fields: Any) -> list[str]:
        return await self.scene.enqueue_all(count, **{"queue": POOL, "is_pooled": True, **fields})

    async def claim(self, limit: int = 1000, *, handle: int = 0, **options: Any) -> PooledClaim:
        given: dict[str, Any] = {"executor_id": EXECUTOR, "pools": [POOL], "task_names": [TASK], "lease": LEASE}
        return await self.scene.subject.handles[handle].claim_pooled(**{**given, **options}, limit=limit)

    async def turns(self, limit: int = 1000, **options: Any) -> list[Claimed]:
        return await self.scene.begun((await self.claim(limit, **options)).claimed)

    async def ids(self, limit: int = 1000, **options: Any) -> list[str]:
        """The ids of what a claim gives, in its order."""
        return [turn.id for turn in await self.turns(limit, **options)]

    async def run(self, limit: int = 1000, **options: Any) -> list[str]:
        """Claim and complete; gives the ids."""
        turns = await self.turns(limit, **options)
        await self.scene.complete_all(turns)
        return [turn.id for turn in turns]

    async def drain(self, limit: int = 1000, **options: Any) -> list[str]:
        """Claim and complete until nothing is given; the ids in the order of their starts."""
        ids: list[str] = []
        while found := await self.run(limit, **options):
            ids += found
        return ids

    async def running(self) -> int:
        return len(await self.running_keys())

    async def running_keys(self) -> list[str | None]:
        """The serial keys of what runs now, as the storage has them in one look."""
        where = ExecutionFilter(statuses=(Status.RUNNING,), queue=POOL)
        return [record.serial_key for record in await self.storage.search(where, limit=10_000)]

    async def keys(self, turns: Sequence[Claimed]) -> list[str | None]:
        """The serial keys of claimed turns, in their order."""
        return [(await self.scene.get(turn.id)).serial_key for turn in turns]
