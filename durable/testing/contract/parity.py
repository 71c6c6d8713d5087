"""Contract of parity: after any sequence of verbs a storage holds what memory, the specification, holds."""

from __future__ import annotations

import pytest

from durable.testing.clock import VirtualClock
from durable.testing.contract.jobs_walk import JobWalk
from durable.testing.contract.pool_walk import PoolWalk
from durable.testing.contract.scene import Case
from durable.testing.contract.subject import ContractSubject
from durable.testing.contract.timer_walk import TimerWalk
from durable.testing.contract.walk import Walk

__all__ = ["SEEDS", "STEPS", "ParityContract"]

SEEDS = (0, 1, 2, 3, 7, 8)
STEPS = 100


class ParityContract(Case):
    @pytest.mark.parametrize("seed", SEEDS)
    async def test_a_random_walk_leaves_the_records_that_memory_has(self, subject: ContractSubject, seed: int) -> None:
        walk = Walk(subject, VirtualClock(await subject.now()), seed)
        for _ in range(STEPS):
            await walk.step()

    @pytest.mark.parametrize("seed", SEEDS)
    async def test_a_random_walk_of_jobs_leaves_the_jobs_that_memory_has(
        self, subject: ContractSubject, seed: int
    ) -> None:
        walk = JobWalk(subject, VirtualClock(await subject.now()), seed)
        for _ in range(STEPS):
            await walk.step()

    @pytest.mark.parametrize("seed", SEEDS)
    async def test_a_random_walk_of_timers_leaves_the_timers_that_memory_has(
        self, subject: ContractSubject, seed: int
    ) -> None:
        walk = TimerWalk(subject, VirtualClock(await subject.now()), seed)
        for _ in range(STEPS):
            await walk.step()

    @pytest.mark.parametrize("seed", SEEDS)
    async def test_a_random_walk_in_pools_leaves_the_tallies_that_memory_has(
        self, subject: ContractSubject, seed: int
    ) -> None:
        walk = PoolWalk(subject, VirtualClock(await subject.now()), seed)
        for _ in range(STEPS):
            await walk.step()
