"""A random walk over executions in pools on two storages at once: the same records and tallies after each verb."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from durable.execution import Claimed, NewExecution
from durable.pool_rows import PoolConfig, PooledClaim, PoolTally
from durable.testing.clock import VirtualClock
from durable.testing.contract.subject import ContractSubject
from durable.testing.contract.walk import ALL, NAMES, QUEUES, Walk

__all__ = ["PoolWalk"]

_WINDOWS = (0.0, 2.5, 3600.0)


class PoolWalk(Walk):
    """As Walk, in two pools without limits."""

    def __init__(self, subject: ContractSubject, model_clock: VirtualClock, seed: int) -> None:
        super().__init__(subject, model_clock, seed)
        self._is_open = False
        self.met = PoolTally("", "")
        """The most of each number that a tally had: a walk that counts little proves little."""

    async def step(self) -> None:
        if not self._is_open:
            pools = [PoolConfig(name, None, None, False, None, None, False) for name in QUEUES]
            await self._compare("ensure_pools", lambda storage: storage.ensure_pools(pools), list)
            self._is_open = True
        await super().step()
        for over in _WINDOWS:
            await self._compare_tallies(over)

    async def _compare_tallies(self, over: float) -> None:
        await self._compare("tallies", lambda storage: storage.pool_tallies(over=over), _rounded)
        for tally in await self._model.pool_tallies(over=over):
            self.met = PoolTally._make(("", "", *map(max, self.met[2:], tally[2:])))

    def _verbs(self) -> Mapping[Callable[[], Awaitable[None]], int]:
        return {**super()._verbs(), self.report_pools: 1, self.long_time: 1}

    def _row(self, parent: Claimed | None = None, index: int = 0) -> NewExecution:
        return super()._row(parent, index)._replace(is_pooled=True)

    async def claim(self) -> None:
        """Which of several equals a limit leaves out is nobody's promise, so there is none."""
        options: dict[str, Any] = {
            "executor_id": "executor-a",
            "pools": self._random.choice([QUEUES, QUEUES[:1]]),
            "task_names": self._random.choice([NAMES, NAMES[:1]]),
            "limit": ALL,
            "lease": 4.0,
        }
        claim = await self._compare("claim", lambda storage: storage.claim_pooled(**options), _in_order)
        assert isinstance(claim, list)
        self._turns += claim

    async def report_pools(self) -> None:
        await self._compare("report_pools", lambda storage: storage.report_pools(QUEUES), list)

    async def long_time(self) -> None:
        seconds = self._random.choice([30.0, 61.0])
        await self._subject.advance(seconds)
        self._clock.advance(seconds)


def _in_order(claim: PooledClaim) -> list[Claimed]:
    return sorted(claim.claimed)


def _rounded(tallies: list[PoolTally]) -> list[PoolTally]:
    """Seconds are sums of floats, which come in any order."""
    return [
        tally._replace(start_lag=round(tally.start_lag, 6), longest_start_lag=round(tally.longest_start_lag, 6))
        for tally in tallies
    ]
