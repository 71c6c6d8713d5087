"""A random walk over the verbs of timers on two storages at once: the same calls, and after each the same timers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from durable.execution import Claimed
from durable.job import JobCommit, JobKey, JobKind, JobView, TakenTurn, TurnPolicy, TurnToTake
from durable.storage import Operation, Storage
from durable.testing.clock import VirtualClock
from durable.testing.contract.jobs_walk import ALL, JobWalk, by_turn, plain
from durable.testing.contract.scene import ERROR
from durable.testing.contract.subject import ContractSubject
from durable.timer import TIMERS, Anchor, NewTimer, StoredTimer, TimerEnd, TimerFilter

__all__ = ["TimerWalk"]

OWNERS: Final = ("a", "b")
NAMES: Final = (None, None, "slot", "other")
QUEUES: Final = ("default", "default", "elsewhere")


class TimerWalk(JobWalk):
    """As JobWalk; `met` is what it has seen happen."""

    def __init__(self, subject: ContractSubject, model_clock: VirtualClock, seed: int) -> None:
        super().__init__(subject, model_clock, seed)
        self.met: set[str] = set()
        self._set: list[NewTimer] = []

    async def step(self) -> None:
        await super().step()
        for owner in OWNERS:
            keys = [JobKey(JobKind.TIMER, new.job_name, new.job_key) for new in self._set[-20:] if new.owner == owner]
            await self._compare("jobs", partial(_jobs, keys=keys), plain)
            timers = await self._listed(owner)
            self.met |= {"failed" for timer in timers if timer.error is not None}

    def _verbs(self) -> Mapping[Callable[[], Awaitable[None]], int]:
        return {
            self.advance: 6, self.set: 6, self.begin: 9, self.claim: 2, self.take: 2, self.settle: 9,
            self.cancel_one: 2, self.cancel_some: 1, self.recover: 1, self.set_again: 2, self.end: 1,
        }  # fmt: skip

    async def _listed(self, owner: str) -> list[StoredTimer]:
        where = TimerFilter(owner=owner)
        return await self._compare("timers", lambda storage: storage.list_timers(where, limit=ALL), list)

    async def set(self) -> None:
        pick = self._random.choice
        now = await self._model.now()
        new = self._make.timer(
            pick(OWNERS),
            name=pick(NAMES),
            queue=pick(QUEUES),
            priority=pick([0, 1]),
            delay=pick([0.0, 1.0, 3.0]),
            run_at=pick([None, None, now]),
            interval=pick([None, 0.75, 2.0]),
            anchor=pick(list(Anchor)),
            is_sequential=pick([True, True, False]),
        )
        self._set.append(new)
        await self._store(new)

    async def set_again(self) -> None:
        """What a caller does whose answer was lost."""
        if self._set:
            await self._store(self._random.choice(self._set[-8:]))

    async def _store(self, new: NewTimer) -> None:
        turn = self._make.new_turn(max_attempts=ALL)
        await self._compare("set_timer", lambda storage: storage.set_timer(new, turn=turn), tuple)

    async def end(self) -> None:
        key = JobKey(JobKind.TIMER, TIMERS, self._random.choice(OWNERS))
        ended = await self._compare("end_job", lambda storage: storage.end_job(key, reason=None), plain)
        self.met |= {"ended"} if ended is not None else set()

    async def claim(self) -> None:
        def call(storage: Storage) -> Operation[list[Claimed]]:
            return storage.claim(
                executor_id="executor-a", queues=["default", "elsewhere"], task_names=["turn"], limit=ALL, lease=4.0
            )

        self._claimed += await self._compare("claim", call, sorted)

    async def take(self) -> None:
        claimed = list({turn.id: turn for turn in self._claimed[-4:]}.values())
        asked = [TurnToTake(turn.id, turn.fence, TurnPolicy()) for turn in claimed]
        taken = await self._compare("take_turns", lambda storage: storage.take_turns(asked), by_turn)
        self.met |= {"nothing" if each.timer is None else "started" for each in taken}
        by_id = {each.turn_id: each for each in taken}
        self._taken += [(turn, by_id[turn.id]) for turn in claimed if turn.id in by_id]

    def _commit(self, taken: TakenTurn) -> JobCommit:
        timer, end = taken.timer, None
        if timer is not None:
            error = self._random.choice([None, None, ERROR])
            is_final = error is not None and self._random.random() < 0.3
            end = TimerEnd(timer.id, error, self._random.choice([0.0, 1.5]), timer.attempt, is_final)
        return self._make.job_commit(taken.job.id, timer=end, next_turn=self._make.new_turn(max_attempts=ALL))

    async def cancel_one(self) -> None:
        timers = await self._listed(self._random.choice(OWNERS))
        if timers:
            await self._cancel(TimerFilter(id=self._random.choice(timers).id))

    async def cancel_some(self) -> None:
        await self._cancel(TimerFilter(owner=self._random.choice(OWNERS), name=self._random.choice(NAMES)))

    async def _cancel(self, where: TimerFilter) -> None:
        if await self._compare("cancel_timers", lambda storage: storage.cancel_timers(where), int):
            self.met.add("cancelled")


def _jobs(storage: Storage, *, keys: list[JobKey]) -> Operation[list[JobView | None]]:
    return storage.get_jobs(keys)
