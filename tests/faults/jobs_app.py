"""The keyed jobs of the fault runs. Each turn notes what it was given, and holds a lock that no other turn may hold."""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import psycopg

from durable import Durable, NonRetryable, Retry, constant
from durable.jobs import (
    Continuous,
    ContinuousContext,
    Debounce,
    DebounceContext,
    EventContext,
    ExecuteContext,
    IdleContext,
    JobContext,
    Task,
    every,
)
from tests.faults.app import MOST_DELIVERIES, Journal

__all__ = ["ENDS_ITSELF_AT", "TALLIES", "Added", "Jobs", "LockProbe", "Mended", "Probe", "Sum", "keyed_jobs"]

TALLIES = 20
"""Keys of the Task job that only other jobs send to: few, so that many turns want the rows of the same jobs."""
ENDS_ITSELF_AT = 5
_RETRY = Retry(4, constant("20ms"))


@dataclass
class Added:
    """An event. `uid` is also its event id."""

    uid: str
    add: int
    is_passed_on: bool = False
    """Its handler sends another event to another job."""
    is_poison: bool = False
    """Its handler fails for good until the run has mended it."""


@dataclass
class Sum:
    """The state of all jobs: what the accepted turns have added up."""

    total: int = 0
    turns: int = 0
    executes: int = 0


@dataclass(frozen=True)
class Jobs:
    """What the client calls."""

    ticker: Continuous[Sum]
    batch: Debounce[Sum, Added]
    order: Task[Sum, Added]
    tally: Task[Sum, Added]


class Probe(Protocol):
    """Tells whether another turn of the same incarnation is under way."""

    def enter(self, name: str) -> bool: ...
    def leave(self, name: str) -> None: ...


class LockProbe:
    """A session-level advisory lock for each turn that runs here; the server drops them when this process dies.

    A session may take a lock twice, so turns of the same process are told apart here.
    """

    def __init__(self, dsn: str) -> None:
        self._connection: psycopg.Connection[Any] = psycopg.connect(dsn, autocommit=True)
        self._guard = threading.Lock()
        self._held: set[str] = set()

    def enter(self, name: str) -> bool:
        with self._guard:
            if name in self._held or not self._ask("select pg_try_advisory_lock(hashtextextended(%s, 0))", name):
                return False
            self._held.add(name)
            return True

    def leave(self, name: str) -> None:
        with self._guard:
            self._held.remove(name)
            self._ask("select pg_advisory_unlock(hashtextextended(%s, 0))", name)

    def close(self) -> None:
        self._connection.close()

    def _ask(self, text: Any, name: str) -> bool:
        row = self._connection.execute(text, [name]).fetchone()
        return bool(row and row[0])


class Mended:
    """A file that the run makes when poisoned events are to be handled: all processes see it at once."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "mended"

    def mend(self) -> None:
        self._path.touch()

    @property
    def is_mended(self) -> bool:
        return self._path.exists()


class _Claim(NamedTuple):
    id: str
    fence: int


def claim_of(ctx: JobContext[Any]) -> _Claim:
    """Users have no need of the fence; a test that proves fencing has."""
    claimed = ctx._turn.attempt.claimed
    return _Claim(claimed.id, claimed.fence)


def share(text: str) -> float:
    """A number from 0 to 1 that follows from the text, so that a turn does the same in all its attempts."""
    return zlib.crc32(text.encode()) / 2**32


@dataclass
class _Noted:
    journal: Journal
    probe: Probe
    mended: Mended

    @contextmanager
    def turn(self, ctx: JobContext[Any], events: list[Added], **fields: Any) -> Iterator[None]:
        """Note a turn with what it is given, from the moment it holds its lock to the moment it gives it back."""
        id_, fence = claim_of(ctx)
        name = f"{ctx.instance_id}#{ctx.epoch}"
        is_alone = self.probe.enter(name)
        self.journal.note(
            "turn", id_, fence, job=ctx.instance_id, epoch=ctx.epoch, attempt=ctx.attempt, alone=is_alone,
            events=[event.uid for event in events], add=sum(event.add for event in events), **fields,
        )  # fmt: skip
        try:
            yield
        finally:
            self.journal.note("turned", id_, fence)
            if is_alone:
                self.probe.leave(name)

    def fail_sometimes(self, ctx: JobContext[Any], events: list[Added]) -> None:
        """Some turns fail once or twice and then do not; some events fail until they are mended."""
        if any(event.is_poison for event in events) and not self.mended.is_mended:
            raise NonRetryable("poison")
        if share(ctx.execution_id) < 0.1 and ctx.attempt <= (2 if share(ctx.execution_id) < 0.03 else 1):
            raise ValueError("the first attempts fail")

    def send(self, ctx: JobContext[Any], job: Task[Sum, Added], number: int, add: int) -> None:
        """Send to a sibling under an id that follows from the turn, and note it: it counts if the turn is accepted."""
        id_, fence = claim_of(ctx)
        uid = f"{id_}/{number}"
        key = f"{zlib.crc32(ctx.instance_id.encode()) % TALLIES}"
        ctx.send(job, key, Added(uid, add), event_id=uid)
        self.journal.note("sent", id_, fence, uid=uid, to=f"task:{job.name}:{key}", add=add)


def keyed_jobs(app: Durable, journal: Journal, probe: Probe, mended: Mended, tick: str = "10s") -> Jobs:
    """Declare them. Handlers take some milliseconds, so that a kill at any time meets some."""
    noted = _Noted(journal, probe, mended)
    tally = _task(app, noted, "tally", None)
    order = _task(app, noted, "order", tally)

    @app.continuous(state=Sum, schedule=every(tick), retry=_RETRY, max_deliveries=MOST_DELIVERIES)
    async def ticker(ctx: ContinuousContext[Sum]) -> None:
        ends = ctx.run_count == ENDS_ITSELF_AT and share(ctx.key) < 0.3
        with noted.turn(ctx, [], ends=ends):
            ctx.state.turns += 1
            if share(ctx.execution_id) < 0.3:
                noted.send(ctx, tally, 0, 1)
            await asyncio.sleep(share(ctx.execution_id) * 0.05)
            noted.fail_sometimes(ctx, [])
            if ends:
                ctx.terminate(ctx.execution_id)

    @app.debounce(
        event=Added, state=Sum, reducer=_added, flush_after="150ms", max_events=5, retry=_RETRY,
        max_deliveries=MOST_DELIVERIES,
    )  # fmt: skip
    async def batch(ctx: DebounceContext[Sum, Added]) -> None:
        events = list(ctx.events)
        with noted.turn(ctx, events):
            if ctx.state.total != sum(event.add for event in events):
                noted.journal.note("wrong", *claim_of(ctx), text="the reducer's state is not that of the events")
            noted.send(ctx, tally, 0, ctx.state.total)
            await asyncio.sleep(share(ctx.execution_id) * 0.05)
            noted.fail_sometimes(ctx, events)

    return Jobs(ticker, batch, order, tally)


def _added(state: Sum | None, event: Added) -> Sum:
    before = state or Sum()
    return Sum(before.total + event.add, before.turns + 1)


def _task(app: Durable, noted: _Noted, name: str, sibling: Task[Sum, Added] | None) -> Task[Sum, Added]:
    job = app.task_job(name, state=Sum, event=Added, retry=_RETRY, max_deliveries=MOST_DELIVERIES)

    @job.on_event
    async def on_event(ctx: EventContext[Sum, Added], event: Added) -> None:
        with noted.turn(ctx, [event], number=ctx.event_number):
            state = ctx.state or Sum()
            ctx.set_state(Sum(state.total + event.add, state.turns + 1, state.executes))
            if event.is_passed_on and sibling is not None:
                noted.send(ctx, sibling, 0, event.add)
                ctx.schedule("100ms")
            await asyncio.sleep(share(ctx.execution_id) * 0.03)
            noted.fail_sometimes(ctx, [event])

    @job.execute
    def execute(ctx: ExecuteContext[Sum]) -> None:
        with noted.turn(ctx, [], execute=True):
            state = ctx.state or Sum()
            ctx.set_state(Sum(state.total, state.turns, state.executes + 1))
            ctx.cancel_signal.wait(share(ctx.execution_id) * 0.03)
            noted.fail_sometimes(ctx, [])

    @job.on_idle
    async def on_idle(ctx: IdleContext[Sum]) -> None:
        noted.journal.note("idle", *claim_of(ctx))

    return job
