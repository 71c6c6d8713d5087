"""The walks of the parity contract go somewhere: what they never reach, they never compare."""

from __future__ import annotations

import pytest

from durable.execution import FINISHED, Status
from durable.job import JobStatus, TurnCause
from durable.pool_rows import PoolTally
from durable.testing import VirtualClock
from durable.testing.contract import ContractSubject
from durable.testing.contract.jobs_walk import JobWalk
from durable.testing.contract.parity import SEEDS, STEPS
from durable.testing.contract.pool_walk import PoolWalk
from durable.testing.contract.timer_walk import TimerWalk
from durable.testing.contract.walk import Walk
from tests.support.memory_subject import MemorySubject


async def reached_by(seed: int) -> set[Status]:
    subject: ContractSubject = MemorySubject()
    walk = Walk(subject, VirtualClock(await subject.now()), seed)
    await take(walk)
    return walk.reached


async def take(walk: Walk) -> None:
    for _ in range(STEPS):
        await walk.step()


async def test_the_walks_together_reach_every_status() -> None:
    reached = [await reached_by(seed) for seed in SEEDS]
    assert set().union(*reached) == set(Status)


@pytest.mark.parametrize("seed", SEEDS)
async def test_every_walk_ends_executions_and_leaves_some_waiting(seed: int) -> None:
    reached = await reached_by(seed)
    assert len(reached & FINISHED) >= 2
    assert len(reached - FINISHED) >= 3


async def test_a_walk_notices_a_storage_whose_clock_differs() -> None:
    subject = MemorySubject()
    walk = Walk(subject, VirtualClock(await subject.now()), 0)
    await subject.advance(1.0)
    with pytest.raises(AssertionError, match="differs from memory"):
        await take(walk)


async def test_the_walks_of_jobs_together_reach_every_status_and_cause() -> None:
    statuses: set[JobStatus] = set()
    causes: set[TurnCause] = set()
    for seed in SEEDS:
        subject: ContractSubject = MemorySubject()
        walk = JobWalk(subject, VirtualClock(await subject.now()), seed)
        for _ in range(STEPS):
            await walk.step()
        statuses |= walk.statuses
        causes |= walk.causes
    assert (statuses, causes) == (set(JobStatus), set(TurnCause))


async def test_the_walks_of_timers_together_meet_what_can_happen() -> None:
    met: set[str] = set()
    for seed in SEEDS:
        subject: ContractSubject = MemorySubject()
        walk = TimerWalk(subject, VirtualClock(await subject.now()), seed)
        for _ in range(STEPS):
            await walk.step()
        met |= walk.met
    assert met == {"started", "nothing", "failed", "cancelled", "ended"}


async def test_the_walks_in_pools_together_count_everything_there_is_to_count() -> None:
    met: list[float] = [0] * (len(PoolTally._fields) - 2)
    for seed in SEEDS:
        subject: ContractSubject = MemorySubject()
        walk = PoolWalk(subject, VirtualClock(await subject.now()), seed)
        for _ in range(STEPS):
            await walk.step()
        met = [max(pair) for pair in zip(met, walk.met[2:], strict=True)]
    assert min(met) > 0
