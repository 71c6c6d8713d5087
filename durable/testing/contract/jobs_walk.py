"""A random walk over the verbs of jobs on two storages at once: the same calls, and after each the same jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, Final, TypeVar, cast

from durable.execution import Claimed, Settlement
from durable.job import (
    EventEnd,
    EventsEnd,
    Job,
    JobCommit,
    JobFilter,
    JobKey,
    JobKind,
    JobStatus,
    NewEvent,
    StoredEvent,
    TakenTurn,
    TurnCause,
    TurnPolicy,
    TurnToTake,
)
from durable.memory import MemoryStorage
from durable.storage import ExecutionFilter, Operation, Storage
from durable.testing.clock import VirtualClock
from durable.testing.contract.scene import ERROR
from durable.testing.contract.subject import ContractSubject
from durable.testing.contract.walk import outcome, records_by_id
from durable.testing.make import Maker
from durable.transitions import complete, fail, release

__all__ = ["ALL", "JobWalk", "by_turn", "plain"]

T = TypeVar("T")
POLICIES: Final[Mapping[JobKey, TurnPolicy]] = {
    JobKey(JobKind.CONTINUOUS, "name", "key"): TurnPolicy(),
    JobKey(JobKind.DEBOUNCE, "name", "key"): TurnPolicy(window=2.0, max_events=3),
    JobKey(JobKind.DEBOUNCE, "sliding", "key"): TurnPolicy(window=2.0, max_wait=3.5),
    JobKey(JobKind.TASK, "name", "key"): TurnPolicy(max_events=1),
}
KEYS: Final = list(POLICIES)
EVENT_IDS: Final = ("a", "b", "c")
ALL: Final = 1_000


class JobWalk:
    """One seed's walk. The storage under test must be empty, and its clock must stand still but for `step`."""

    def __init__(self, subject: ContractSubject, model_clock: VirtualClock, seed: int) -> None:
        self._subject = subject
        self._storage: Storage = subject.handles[0]
        self._clock = model_clock
        self._model: Storage = MemoryStorage(model_clock.now)
        self._random = Random(seed)  # noqa: S311 - a seed that repeats is the point
        self._make = Maker()
        self._claimed: list[Claimed] = []
        self._taken: list[tuple[Claimed, TakenTurn]] = []
        """Turns that may be held, and late ones."""
        self.done: list[str] = []
        self.statuses: set[JobStatus] = set()
        self.causes: set[TurnCause] = set()
        """What the walk has met: one that meets little proves little."""

    async def step(self) -> None:
        """One random verb on both, then a comparison of everything."""
        verbs = self._verbs()
        (verb,) = self._random.choices(list(verbs), list(verbs.values()))
        self.done.append(verb.__name__)
        await verb()
        await self._compare("records", lambda storage: storage.search(ExecutionFilter(), limit=ALL), records_by_id)
        await self._compare("jobs", lambda storage: storage.get_jobs(KEYS), plain)
        await self._compare("counts", lambda storage: storage.count_jobs(JobFilter()), int)
        with_dead = JobFilter(has_dead=True, statuses=tuple(JobStatus))
        await self._compare("dead letters", lambda storage: storage.list_jobs(with_dead, limit=ALL), plain)
        await self._compare("defects", lambda storage: storage.defects(limit=ALL), list)
        for key in KEYS:
            await self._compare("events", partial(_pending_events, key=key), list)
            event_id = self._random.choice(EVENT_IDS)
            await self._compare("end of an event", partial(_event_end, key=key, event_id=event_id), plain)
        self.statuses |= {view.job.status for view in await self._model.get_jobs(KEYS) if view is not None}

    def _verbs(self) -> Mapping[Callable[[], Awaitable[None]], int]:
        """How often each is chosen, against the others."""
        return {
            self.advance: 6, self.start: 3, self.append: 9, self.claim: 3, self.begin: 12, self.take: 3,
            self.settle: 12, self.trigger: 3, self.end: 1, self.clear: 1, self.pause: 2, self.resume: 3,
            self.redrive: 2, self.recover: 1, self.cancel: 1, self.forget: 1,
        }  # fmt: skip

    async def _compare(self, what: str, call: Callable[[Storage], Operation[T]], normal: Callable[[T], object]) -> T:
        """What the model gives, which must be what the storage under test gives."""
        results: list[T] = []

        def kept(result: T) -> object:
            results.append(result)
            return normal(result)

        expected = await outcome(call(self._model), kept)
        actual = await outcome(call(self._storage), normal)
        assert actual == expected, f"{what} differs from memory after {self.done}"
        return results[0]

    def _key(self) -> JobKey:
        return self._random.choice(KEYS)

    # --- verbs -----------------------------------------------------------------------------------------------

    async def advance(self) -> None:
        seconds = self._random.choice([0.25, 0.5, 1.0, 2.0])
        await self._subject.advance(seconds)
        self._clock.advance(seconds)

    async def start(self) -> None:
        new = self._make.new_job(self._key(), delay=self._random.choice([0.0, 1.0, 3.0]))
        await self._compare("start_job", lambda storage: storage.start_job(new), plain)

    def _event(self, key: JobKey) -> NewEvent:
        event_id = self._random.choice([None, None, *EVENT_IDS])
        return self._make.event(key, event_id=event_id, policy=POLICIES[key], dedupe_window=3.0)

    async def append(self) -> None:
        events = [self._event(self._key()) for _ in range(self._random.randint(1, 3))]
        await self._compare("append_events", lambda storage: storage.append_events(events), list)

    async def claim(self) -> None:
        def call(storage: Storage) -> Operation[list[Claimed]]:
            return storage.claim(
                executor_id="executor-a", queues=["default"], task_names=["turn"], limit=ALL, lease=4.0
            )

        self._claimed += await self._compare("claim", call, sorted)

    async def begin(self) -> None:
        """What an executor does: a claim, and at once what the turns run on."""
        await self.claim()
        await self.take()

    async def take(self) -> None:
        claimed = list({turn.id: turn for turn in self._claimed[-4:]}.values())
        policies = {key: POLICIES[key] for key in KEYS}
        views = await self._model.get_jobs(KEYS)
        of_job = {view.job.id: policies[view.job.job_key] for view in views if view is not None}
        asked = [TurnToTake(turn.id, turn.fence, of_job[turn.root_id]) for turn in claimed]
        taken = await self._compare("take_turns", lambda storage: storage.take_turns(asked), by_turn)
        self.causes |= {each.job.turn_cause for each in taken if each.job.turn_cause is not None}
        by_id = {each.turn_id: each for each in taken}
        self._taken += [(turn, by_id[turn.id]) for turn in claimed if turn.id in by_id]

    async def settle(self) -> None:
        turns = {turn.id: (turn, taken) for turn, taken in self._taken[-4:]}
        ends = [self._end(turn, taken) for turn, taken in turns.values()]
        await self._compare("settle", lambda storage: storage.settle(ends), tuple)

    def _end(self, turn: Claimed, taken: TakenTurn) -> Settlement:
        way = self._random.random()
        if way < 0.2:
            return fail(turn, ERROR, retry_delay=self._random.choice([0.0, 1.0]))
        if way < 0.3:
            return release(turn)
        return complete(turn, "null")._replace(job=self._commit(taken))

    def _commit(self, taken: TakenTurn) -> JobCommit:
        pick = self._random.choice
        key = taken.job.job_key
        fields: dict[str, Any] = {
            "status": pick([JobStatus.ACTIVE] * 8 + [JobStatus.FAILED, JobStatus.TERMINATED]),
            "reason": pick([None, "reason"]),
            "writes_state": pick([False, True]),
            "state": pick([None, '"s"']),
            "runs": pick([0, 1]),
            "executes": pick([0, 1]),
            "error": pick([None, ERROR]),
            "writes_schedule": pick([False, True]),
            "schedule_delay": pick([None, 0.0, 2.0]),
            "schedule_at": pick([None, None, taken.now]),
            "events": pick(list(EventsEnd)),
            "policy": POLICIES[key],
            "sends": tuple(self._event(self._key()) for _ in range(pick([0, 0, 1, 2]))),
        }
        return self._make.job_commit(taken.job.id, **fields)

    async def trigger(self) -> None:
        key, turn, only_pending = self._key(), self._make.new_turn(), self._random.random() < 0.5
        await self._compare(
            "trigger_job", lambda storage: storage.trigger_job(key, turn=turn, only_pending=only_pending), plain
        )

    async def end(self) -> None:
        key = self._key()
        await self._compare("end_job", lambda storage: storage.end_job(key, reason="enough"), plain)

    async def clear(self) -> None:
        key = self._key()
        await self._compare("clear_job", lambda storage: storage.clear_job(key), plain)

    async def pause(self) -> None:
        key = self._key()
        await self._compare("pause_job", lambda storage: storage.pause_job(key), plain)

    async def resume(self) -> None:
        key, turn = self._key(), self._make.new_turn()
        await self._compare("resume_job", lambda storage: storage.resume_job(key, turn=turn), plain)

    async def redrive(self) -> None:
        key, turn = self._key(), self._make.new_turn()
        await self._compare("redrive_job", lambda storage: storage.redrive_job(key, turn=turn), plain)

    async def recover(self) -> None:
        await self._compare("recover", lambda storage: storage.recover(limit=ALL), sorted)

    async def cancel(self) -> None:
        ids = [turn.id for turn in self._claimed[-4:]]
        await self._compare("cancel", lambda storage: storage.cancel(ids, reason="cancelled"), list)

    async def forget(self) -> None:
        await self._compare("forget_events", lambda storage: storage.forget_events(limit=ALL), int)


def plain(result: object) -> object:
    """A result whose jobs lack `updated_at`, which tells when a storage last wrote one and belongs to no promise."""
    match result:
        case Job():
            return result._replace(updated_at=result.created_at)
        case list() | tuple():
            return [plain(each) for each in cast("Sequence[object]", result)]
        case _:
            return result


def by_turn(taken: Sequence[TakenTurn]) -> object:
    return {each.turn_id: plain(each) for each in taken}


def _pending_events(storage: Storage, *, key: JobKey) -> Operation[list[StoredEvent]]:
    return storage.pending_events(key)


def _event_end(storage: Storage, *, key: JobKey, event_id: str) -> Operation[EventEnd | None]:
    return storage.event_end(key, event_id)
