"""Every kind of job: a worker, its connection or a commit goes wrong at each step, and no turn is lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from durable import Durable, Retry, StorageUnavailable, constant, every
from durable.jobs import Continuous, ContinuousContext, EventContext, ShownStatus, Task
from durable.storage import Storage
from durable.testing import Kit, VirtualStorage
from storage_postgres.statements import render
from tests.flow.place import PATIENCE, PostgresPlace, running, soon

from .crew import Door, Failing, client_only, crew, drained, reached

HALF_HOUR = timedelta(minutes=30)
MESSAGES = "messages"
"""The queue of what the Continuous sends, so that a worker which is about to die can leave it alone."""


class Worker:
    """An app as one process runs it, with a Continuous that sends to a Task, and what its handlers did."""

    def __init__(self, ran: list[tuple[int, int]], got: list[int], app: Durable | None = None) -> None:
        self.app = app or Durable("memory:")
        self.act: Callable[[ContinuousContext[int]], Any] = _nothing
        other: Task[int, int] = self.app.task_job("other", state=int, event=int, queue=MESSAGES)

        @other.on_event
        async def on_event(ctx: EventContext[int, int], event: int) -> None:
            got.append(event)

        @self.app.continuous(state=int, schedule=every("30m"), max_deliveries=3)
        async def job(ctx: ContinuousContext[int]) -> None:
            ran.append((ctx.run_count, ctx.attempt))
            ctx.update_state(lambda n: n + 1)
            ctx.send(other, "k", ctx.run_count)
            await self.act(ctx)

        self.job: Continuous[int] = job


async def _nothing(_: Any) -> None: ...


@pytest.fixture
def ran() -> list[tuple[int, int]]:
    return []


@pytest.fixture
def got() -> list[int]:
    return []


async def assert_one_commit(worker: Worker, kit: Kit, got: list[int]) -> None:
    """One run has been accepted, with its state, its message and its plan."""
    status = await worker.job.status("k")
    assert (status.status, status.run_count, await worker.job.state("k")) == (ShownStatus.RUNNING, 1, 1)
    assert got == [1]
    assert status.next_run_at is not None
    assert status.next_run_at <= kit.clock.now() + HALF_HOUR
    assert await kit.app.storage.defects(limit=10) == []


def lease_ends(storage: VirtualStorage) -> None:
    storage.move_to(storage.now() + timedelta(hours=2))


async def test_gen_04_a_worker_dies_with_a_turn_it_has_claimed(
    storage: VirtualStorage, ran: list[tuple[int, int]], got: list[int]
) -> None:
    first, second = Worker(ran, got), Worker(ran, got)
    async with client_only(storage, first.app) as dying:
        await first.job.start("k", 0)
        (claimed,) = await dying.storage.claim(
            executor_id="dying", queues=["default"], task_names=["continuous:job"], limit=9, lease=15.0
        )
        assert claimed.attempts == 1
    lease_ends(storage)
    async with crew(storage, second.app) as (kit,):
        await kit.drain()
        assert ran == [(1, 1)]
        await assert_one_commit(second, kit, got)


async def test_gen_04_a_worker_dies_in_the_middle_of_user_code(
    storage: VirtualStorage, ran: list[tuple[int, int]], got: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Worker(ran, got), Worker(ran, got)
    door = Door()
    first.act = lambda _: door.hold(is_deaf=True)
    # Its one slot stays taken, so that it cannot claim what it has lost.
    monkeypatch.setattr("durable.rooms.run._DEAF_AFTER", 600.0)
    async with crew(storage, first.app, queues=["default"], concurrency=1) as (dying,):
        await first.job.start("k", 0)
        await reached(door)
        lease_ends(storage)
        async with crew(storage, second.app) as (kit,):
            await kit.drain()
            assert ran == [(1, 1), (1, 1)]
            await assert_one_commit(second, kit, got)
            door.open()
            await drained([dying, kit])
            await assert_one_commit(second, kit, got)


@pytest.mark.parametrize("is_done", [False, True], ids=["before its commit", "after its commit, unanswered"])
async def test_gen_04_a_worker_dies_at_its_commit(
    storage: VirtualStorage, ran: list[tuple[int, int]], got: list[int], is_done: bool
) -> None:
    first, second = Worker(ran, got), Worker(ran, got)
    async with crew(storage, first.app) as (dying,):
        # Not an outage that passes: nothing more is heard of this worker's ends.
        failing = Failing(dying.app.storage, "settle", RuntimeError("gone"), times=2, is_done=is_done)
        await first.job.start("k", 0)
        await soon(failing.failed.wait())
        assert dying.executor.refused_count == 0
        lease_ends(storage)
        async with crew(storage, second.app) as (kit,):
            await drained([dying, kit])
            runs = [(1, 1)] if is_done else [(1, 1), (1, 1)]
            # Where the first commit stood, the next run has come due meanwhile.
            assert ran[: len(runs)] == runs
            status = await second.job.status("k")
            committed = 2 if is_done else 1
            assert (status.run_count, await second.job.state("k"), got) == (
                committed, committed, list(range(1, committed + 1)),
            )  # fmt: skip
            assert len(ran) == len(runs) + committed - 1
            assert status.next_run_at == storage.now() + HALF_HOUR
            assert await kit.app.storage.defects(limit=10) == []


def unavailable(storage: Storage, *, is_done: bool) -> Failing:
    return Failing(storage, "settle", StorageUnavailable("the connection is gone"), times=1, is_done=is_done)


@pytest.mark.parametrize("is_done", [False, True], ids=["before the commit", "after the commit"])
async def test_gen_09_a_commit_whose_answer_is_lost_is_applied_once(
    storage: VirtualStorage, ran: list[tuple[int, int]], got: list[int], is_done: bool
) -> None:
    worker = Worker(ran, got)
    async with crew(storage, worker.app) as (kit,):
        failing = unavailable(kit.app.storage, is_done=is_done)
        await worker.job.start("k", 0)
        await kit.drain()
        assert failing.failed.is_set()
        assert ran == [(1, 1)]
        await assert_one_commit(worker, kit, got)
        assert kit.executor.refused_count == 0


async def test_gen_20_a_commit_that_fails_for_now_is_tried_again_without_the_handler(
    storage: VirtualStorage, ran: list[tuple[int, int]], got: list[int]
) -> None:
    worker = Worker(ran, got)
    async with crew(storage, worker.app) as (kit,):
        unavailable(kit.app.storage, is_done=False)
        await worker.job.start("k", 0, wait=True)
        await kit.drain()
        assert ran == [(1, 1)]
        await assert_one_commit(worker, kit, got)


# --- inside the commit, on Postgres ----------------------------------------------------------------------------------

KILLED = "perform pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid()); perform pg_catalog.pg_sleep(60);"
TRAP = """
    create sequence /*schema*/trap;
    create function /*schema*/spring() returns trigger language plpgsql as $$
    begin
        if pg_catalog.nextval('/*schema*/trap') <= {times} then {what} end if;
        return new;
    end $$;
    create trigger trap before insert on /*schema*/executions
        for each row when (new.kind = 'turn') execute function /*schema*/spring();
"""
"""The next turn is inserted by the statement that has already written the state of the job."""


class Trap:
    """Springs in the commits of turns, for the first times, once it is set."""

    def __init__(self, place: PostgresPlace, what: str, times: int) -> None:
        self._place = place
        self._set = TRAP.format(what=what, times=times)

    def set(self) -> None:
        self._place.control.execute(render(self._set, self._place.schema))

    def take_away(self) -> None:
        self._place.control.execute(render("drop trigger trap on /*schema*/executions", self._place.schema))

    @property
    def sprung(self) -> int:
        found = self._place.control.execute(
            render("select case when is_called then last_value else 0 end from /*schema*/trap", self._place.schema)
        ).fetchone()
        assert found is not None
        return int(found[0])


async def test_gen_05_state_and_plan_of_a_turn_are_written_together_or_not_at_all(
    postgres: PostgresPlace, ran: list[tuple[int, int]], got: list[int]
) -> None:
    worker = Worker(ran, got, postgres.app())
    trap = Trap(postgres, KILLED, times=1_000_000)

    async def set_trap(_: Any) -> None:
        trap.set()

    worker.act = set_trap
    job = worker.job
    async with running(worker.app):
        await job.start("k", 0)
        async with asyncio.timeout(PATIENCE):
            while not ran or trap.sprung < 2:
                status = await job.status("k")
                assert (status.run_count, status.is_turn_running or not ran) == (0, True)
                assert await job.state("k") == 0
        trap.take_away()
        async with asyncio.timeout(PATIENCE):
            while not (await job.status("k")).run_count:
                pass  # each look is a round trip
        assert ran == [(1, 1)]
        status = await job.status("k")
        assert await job.state("k") == 1
        assert status.next_run_at is not None
        assert status.next_run_at > (await worker.app.storage.now())
        await soon(job.trigger("k"))


@pytest.mark.parametrize("code", ["40001", "40P01"], ids=["serialization failure", "deadlock"])
async def test_gen_20_a_conflict_in_the_commit_is_tried_again_without_the_handler(
    postgres: PostgresPlace, ran: list[tuple[int, int]], got: list[int], code: str
) -> None:
    worker = Worker(ran, got, postgres.app())
    trap = Trap(postgres, f"raise exception 'conflict' using errcode = '{code}';", times=2)

    async def set_trap(_: Any) -> None:
        trap.set()

    worker.act = set_trap
    async with running(worker.app):
        await soon(worker.job.start("k", 0, wait=True))
        assert trap.sprung >= 3
        assert ran == [(1, 1)]
        status = await worker.job.status("k")
        assert (status.run_count, status.last_error, await worker.job.state("k")) == (1, None, 1)


# --- poison ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retry", [None, Retry(5, constant(0))], ids=["without retry", "with retry"])
async def test_gen_06_what_keeps_killing_its_process_ends_as_poisoned(
    app: Durable, storage: VirtualStorage, retry: Retry | None
) -> None:
    started: list[tuple[str, int]] = []

    @app.continuous(state=int, schedule=every("30m"), max_deliveries=3, retry=retry)
    async def poison(ctx: ContinuousContext[int]) -> None:
        started.append(("poison", ctx.attempt))

    @app.continuous(state=int, schedule=every("30m"), max_deliveries=3)
    async def bystander(ctx: ContinuousContext[int]) -> None:
        started.append(("bystander", ctx.attempt))

    async with client_only(storage, app):
        await poison.start("k", 5)
        await bystander.start("k", 5)
        for delivery, names in enumerate(
            (["continuous:poison", "continuous:bystander"], ["continuous:poison"], ["continuous:poison"]), 1
        ):
            claimed = await app.storage.claim(
                executor_id="dying", queues=["default"], task_names=names, limit=9, lease=15.0
            )
            starts = [(turn.id, turn.fence) for turn in claimed if turn.is_suspect]
            assert await app.storage.count_starts(starts) == {id_ for id_, _ in starts}
            counted = [(turn.deliveries + turn.is_suspect, turn.attempts) for turn in claimed]
            assert counted == [(delivery, 1)] * len(names)
            lease_ends(storage)
            assert len(await app.storage.recover(limit=10)) == len(names)
    async with crew(storage, app) as (kit,):
        await kit.drain()
        assert started == [("bystander", 1)]
        status = await poison.status("k")
        assert status.last_error is not None
        assert (status.last_error.type, status.run_count, await poison.state("k")) == ("poisoned", 0, 5)
        if retry is None:
            assert (status.status, status.next_run_at) == (ShownStatus.RUNNING, storage.now() + HALF_HOUR)
        else:
            assert (status.status, status.next_run_at) == (ShownStatus.FAILED, None)
            assert (await poison.redrive("k")).redriven
        await kit.clock.advance("30m")
        assert ("poison", 1) in started
        assert (await poison.status("k")).last_error is None
