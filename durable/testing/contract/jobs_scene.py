"""How a case about jobs sets its stage: jobs started, sent to, and their turns run by the verbs themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pytest

from durable.execution import FINISHED, Claimed, Execution, Kind, Settled, Settlement
from durable.job import (
    ENDED,
    Appended,
    Job,
    JobFilter,
    JobKey,
    JobKind,
    JobStatus,
    JobView,
    Started,
    StoredEvent,
    TakenTurn,
    Triggered,
    TurnPolicy,
    TurnToTake,
)
from durable.storage import ExecutionFilter, Storage
from durable.testing.contract.scene import ERROR, LEASE, Case, Scene
from durable.testing.contract.subject import ContractSubject
from durable.transitions import complete, fail

__all__ = [
    "AT_ONCE", "FULL", "ONE", "OTHER", "SLIDING", "SUBJECT", "TURN", "WINDOW",
    "JobCase", "JobScene", "JobTurn", "payloads", "settle_until_tried", "take_until_given",
]  # fmt: skip

TURN: Final = "turn"
"""The task name of every turn that the maker makes."""
SUBJECT: Final = JobKey(JobKind.DEBOUNCE, "name", "key")
OTHER: Final = JobKey(JobKind.TASK, "other name", "other key")

AT_ONCE: Final = TurnPolicy()
ONE: Final = TurnPolicy(max_events=1)
WINDOW: Final = TurnPolicy(window=10.0)
SLIDING: Final = TurnPolicy(window=10.0, max_wait=25.0)
FULL: Final = TurnPolicy(window=10.0, max_events=3)


@dataclass(frozen=True, slots=True)
class JobTurn:
    """A turn that was claimed and taken."""

    claimed: Claimed
    taken: TakenTurn

    @property
    def id(self) -> str:
        return self.claimed.id

    @property
    def job(self) -> Job:
        return self.taken.job

    @property
    def numbers(self) -> list[int]:
        return [event.number for event in self.taken.events]


class JobScene(Scene):
    """The usual ways through the verbs of jobs, on the first handle, for the job SUBJECT unless a key is given."""

    async def start(self, key: JobKey = SUBJECT, **fields: Any) -> Job:
        started: Started = await self.storage.start_job(self.make.new_job(key, **fields))
        assert started.is_new
        return started.job

    async def send(self, key: JobKey = SUBJECT, **fields: Any) -> Appended:
        (appended,) = await self.storage.append_events([self.make.event(key, **fields)])
        return appended

    async def send_all(self, count: int, key: JobKey = SUBJECT, **fields: Any) -> list[Appended]:
        """Events with the payloads 1, 2, …"""
        return await self.storage.append_events(self.make.events(key, count, **fields))

    async def trigger(self, key: JobKey = SUBJECT, *, only_pending: bool = False) -> Triggered:
        return await self.storage.trigger_job(key, turn=self.make.new_turn(), only_pending=only_pending)

    async def redrive(self, key: JobKey = SUBJECT) -> Triggered:
        return await self.storage.redrive_job(key, turn=self.make.new_turn())

    async def resume(self, key: JobKey = SUBJECT) -> Job | None:
        return await self.storage.resume_job(key, turn=self.make.new_turn())

    # --- turns -----------------------------------------------------------------------------------------------

    async def run(self, policy: TurnPolicy = AT_ONCE) -> JobTurn:
        """Claim and take the only turn that is due."""
        claimed = await self.claim_one(TURN)
        return JobTurn(claimed, await self.take(claimed, policy))

    async def take(self, turn: Claimed, policy: TurnPolicy = AT_ONCE) -> TakenTurn:
        (taken,) = await self.storage.take_turns([TurnToTake(turn.id, turn.fence, policy)])
        assert taken.turn_id == turn.id
        return taken

    def end(self, turn: JobTurn, **fields: Any) -> Settlement:
        """The settlement of a turn with what it commits."""
        return complete(turn.claimed, "null")._replace(job=self.make.job_commit(turn.job.id, **fields))

    async def commit(self, turn: JobTurn, **fields: Any) -> Settled:
        settled = await self.storage.settle([self.end(turn, **fields)])
        assert settled.accepted == {turn.id}
        assert not settled.busy
        return settled

    async def retry(self, turn: JobTurn, delay: float) -> None:
        """The attempt fails and another follows."""
        settled = await self.storage.settle([fail(turn.claimed, ERROR, retry_delay=delay)])
        assert settled.accepted == {turn.id}

    async def later(self, seconds: float) -> datetime:
        """Move the clock on; gives the new time."""
        await self.subject.advance(seconds)
        return await self.subject.now()

    async def is_idle(self) -> bool:
        """No turn is due now."""
        return not await self.claim(TURN)

    # --- jobs in some state ----------------------------------------------------------------------------------

    async def idle(self, key: JobKey = SUBJECT, **fields: Any) -> Job:
        """A job that has run once and has nothing to do."""
        await self.start(key, **fields)
        await self.commit(await self.run())
        job = await self.job(key)
        assert job.turn_id is None
        return job

    async def failed(self, key: JobKey = SUBJECT) -> Job:
        """A job whose only turn failed for good."""
        await self.start(key)
        await self.commit(await self.run(), status=JobStatus.FAILED, error=ERROR)
        return await self.job(key)

    # --- looks -----------------------------------------------------------------------------------------------

    async def view(self, key: JobKey = SUBJECT) -> JobView:
        (view,) = await self.storage.get_jobs([key])
        assert view is not None, f"no job {key.instance_id}"
        return view

    async def job(self, key: JobKey = SUBJECT) -> Job:
        return (await self.view(key)).job

    async def dead_counts(self) -> dict[JobKey, int]:
        """How many events each job keeps as dead, as a list shows it."""
        listed = await self.storage.list_jobs(JobFilter(), limit=1_000)
        return {view.job.job_key: view.job.dead_count for view in listed}

    async def waiting(self, key: JobKey = SUBJECT) -> list[int]:
        """The numbers of the events that no turn has consumed."""
        return [event.number for event in await self.storage.pending_events(key)]

    async def turns_of(self, job_id: str) -> list[Execution]:
        """All the turns that a job has had, oldest first."""
        found = await self.storage.search(ExecutionFilter(root_id=job_id), limit=10_000)
        return sorted(found, key=lambda record: (record.created_at, record.id))

    async def snapshot(self, *keys: JobKey) -> object:
        """All that is stored of these jobs, but for when they were last written."""
        views = [
            view and view._replace(job=view.job._replace(updated_at=view.job.created_at))
            for view in await self.storage.get_jobs(keys)
        ]
        return views, [await self.storage.pending_events(key) for key in keys], await self.everything()

    async def assert_job_sound(self, key: JobKey = SUBJECT) -> None:
        """Its turn, its events and its counts belong together, and what is due is not forgotten."""
        job = await self.job(key)
        live = [turn for turn in await self.turns_of(job.id) if turn.status not in FINISHED]
        assert [turn.id for turn in live] == ([job.turn_id] if job.turn_id is not None else [])
        assert all(turn.kind is Kind.TURN for turn in live)
        if job.status is JobStatus.ACTIVE and job.turn_id is None:
            assert (job.pending_count, job.scheduled_at, job.is_triggered) == (0, None, False)
        if job.status in ENDED:
            assert (job.turn_id, job.pending_count, job.is_triggered) == (None, 0, False)
        assert (job.pending_count > 0) is (job.pending_first_at is not None) is (job.pending_last_at is not None)
        events = await self.storage.pending_events(key)
        assert [event.number for event in events] == sorted({event.number for event in events})
        assert len(events) >= job.pending_count
        await self.assert_sound()


def payloads(events: Sequence[StoredEvent]) -> list[str]:
    return [event.payload for event in events]


async def take_until_given(handle: Storage, turn: Claimed, policy: TurnPolicy = AT_ONCE) -> TakenTurn | None:
    """What a turn runs on, asked for again while somebody holds the row of its job; None when its fence is gone."""
    while not (taken := await handle.take_turns([TurnToTake(turn.id, turn.fence, policy)])):
        if not await handle.renew([(turn.id, turn.fence)], lease=LEASE):
            return None
    return taken[0]


async def settle_until_tried(handle: Storage, settlement: Settlement) -> Settled:
    """The outcome of a settlement, sent again while somebody holds a row that it needs."""
    while (settled := await handle.settle([settlement])).busy:
        assert settled.busy == {settlement.id}
        assert settled.accepted == frozenset()
    return settled


class JobCase(Case):
    """Base of the parts of the contract that are about jobs."""

    @pytest.fixture
    def jobs(self, subject: ContractSubject) -> JobScene:
        return JobScene(subject)
