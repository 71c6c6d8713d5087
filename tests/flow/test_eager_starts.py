"""What a process enqueues while its own executor is idle starts there, without a claim; all else waits its turn."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Generator
from typing import Any

import psycopg
import pytest

from durable import Durable, Executor, Handle, Spawn, Status, Task, TaskContext, WorkflowContext
from durable.errors import StorageUnavailable
from durable.execution import Claimed
from durable.storage import Operation, Storage

from .place import PATIENCE, Place, PostgresPlace, running, soon, turns

FAR: dict[str, Any] = {"poll_interval": "10m"}


class Watched:
    """A storage that counts claims and starts, and answers a start only when the test lets it."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.claims = 0
        self.starts: list[str] = []
        self.has_started = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.failure: Exception | None = None
        self.lost: Exception | None = None
        """Raised when the start was made, as if its answer were lost."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def claim(self, **options: Any) -> Operation[list[Claimed]]:
        self.claims += 1
        return self._storage.claim(**options)

    def enqueue_started(self, *args: Any, **options: Any) -> Awaitable[Claimed]:
        return _Start(self, self._storage.enqueue_started(*args, **options))


class _Start:
    def __init__(self, watched: Watched, operation: Operation[Claimed]) -> None:
        self._watched = watched
        self._operation = operation

    def __await__(self) -> Generator[Any, None, Claimed]:
        if self._watched.failure is not None:
            raise self._watched.failure
        claimed = yield from self._operation.__await__()
        self._watched.starts.append(claimed.id)
        self._watched.has_started.set()
        yield from self._watched.may_answer.wait().__await__()
        if self._watched.lost is not None:
            raise self._watched.lost
        return claimed


@pytest.fixture
def storage(place: Place) -> Watched:
    return Watched(place.storage())


@pytest.fixture
def app(storage: Watched) -> Durable:
    return Durable(storage=storage, poll_interval="50ms")  # type: ignore[arg-type]


def declare_work(app: Durable) -> Task[[], str]:
    @app.task
    async def work(ctx: TaskContext) -> str:
        return ctx.execution_id

    return work


@contextlib.asynccontextmanager
async def idle(app: Durable, **settings: Any) -> AsyncIterator[Executor]:
    """An executor that has found nothing to claim."""
    async with running(app, **{**FAR, **settings}) as executor:
        await soon(executor.quiet())
        yield executor


async def given_up(work: Task[[], Any], storage: Watched) -> None:
    """A caller who was cancelled while the answer to its start was on its way."""
    storage.may_answer.clear()
    caller = asyncio.ensure_future(work.enqueue())
    await soon(storage.has_started.wait())
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_an_idle_executor_starts_what_its_process_enqueues_without_a_claim(
    app: Durable, storage: Watched
) -> None:
    work = declare_work(app)
    async with idle(app) as executor:
        before = storage.claims
        handles: list[Handle[str]] = []
        for _ in range(3):
            await soon(executor.quiet())
            handles.append(await work.enqueue())
            assert await handles[-1].result(PATIENCE) == handles[-1].execution_id
        assert (storage.starts, storage.claims) == ([each.execution_id for each in handles], before)
        assert executor.claimed_count == 3
        record = await handles[0].execution()
        assert (record.status, record.attempts, record.fence) == (Status.COMPLETED, 1, 2)


async def test_every_kind_that_a_client_enqueues_can_start_so(app: Durable, storage: Watched) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext, number: int) -> int:
        return await ctx.step(double, number)

    async def double(number: int) -> int:
        return 2 * number

    @app.parent()
    async def tree(number: int) -> Spawn[int]:
        return Spawn(number)

    async with idle(app):
        assert await (await flow.enqueue(4)).result(PATIENCE) == 8
        assert (await (await tree.enqueue(5)).result(PATIENCE)).output == 5
    assert len(storage.starts) >= 1


@pytest.mark.parametrize(
    "options",
    [
        {"delay": 0.01}, {"queue": "other"}, {"idempotency_key": "k"}, {"max_deliveries": 1},
    ],
    ids=["delayed", "in another queue", "with a key", "with one delivery"],
)  # fmt: skip
async def test_what_others_have_a_say_in_is_claimed_like_anything_else(
    app: Durable, storage: Watched, options: dict[str, Any]
) -> None:
    work = declare_work(app)
    elsewhere = Durable(storage=storage._storage, poll_interval="50ms")
    declare_work(elsewhere)
    async with idle(app, poll_interval="50ms"), running(elsewhere, queues=["other"]):
        handle = await work.enqueue(**options)
        assert await handle.result(PATIENCE) == handle.execution_id
    assert storage.starts == []


async def test_no_more_than_its_slots_start_so(app: Durable, storage: Watched) -> None:
    go_on = asyncio.Event()
    most, now = 0, 0

    @app.task
    async def work() -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await go_on.wait()
        now -= 1

    async with idle(app, concurrency=2):
        handles = [await work.enqueue() for _ in range(5)]
        assert len(storage.starts) <= 2
        go_on.set()
        for handle in handles:
            await handle.result(PATIENCE)
    assert most == 2


async def test_callers_at_once_share_a_write_and_start_in_slots(app: Durable, storage: Watched) -> None:
    work = declare_work(app)
    async with idle(app, concurrency=3):
        handles = await asyncio.gather(*(work.enqueue() for _ in range(30)))
        for handle in handles:
            assert await handle.result(PATIENCE) == handle.execution_id


async def test_a_caller_who_gives_up_leaves_nothing_behind_that_never_starts(app: Durable, storage: Watched) -> None:
    ran = asyncio.Event()

    @app.task
    async def work() -> None:
        ran.set()

    async with idle(app):
        await given_up(work, storage)
        storage.may_answer.set()
        await soon(ran.wait())


async def test_closing_waits_for_the_answer_of_a_start_whose_caller_gave_up(app: Durable, storage: Watched) -> None:
    work = declare_work(app)
    await app.open()
    async with app.executor(**FAR) as executor:
        await soon(executor.quiet())
        await given_up(work, storage)
        closing = asyncio.ensure_future(app.live.close())
        await turns(20)
        assert not closing.done()
        storage.may_answer.set()
        await soon(closing)


async def test_a_start_whose_answer_comes_while_the_executor_stops_is_given_back(
    app: Durable, storage: Watched
) -> None:
    @app.task
    async def work() -> None:
        raise AssertionError("it is not to start")

    async with app:
        stack = contextlib.AsyncExitStack()
        executor = await stack.enter_async_context(app.executor(**FAR))
        await soon(executor.quiet())
        storage.may_answer.clear()
        enqueueing: asyncio.Future[Handle[None]] = asyncio.ensure_future(work.enqueue())
        await soon(storage.has_started.wait())
        stopping = asyncio.ensure_future(stack.aclose())
        await turns(20)
        storage.may_answer.set()
        handle = await soon(enqueueing)
        await soon(stopping)
        record = await handle.execution()
        assert (record.status, record.attempts, record.deliveries) == (Status.READY, 0, 0)


async def test_an_executor_that_has_stopped_starts_nothing(app: Durable, storage: Watched) -> None:
    work = declare_work(app)
    async with app:
        async with app.executor(**FAR) as executor:
            await soon(executor.quiet())
        handle = await work.enqueue()
        assert await handle.status() is Status.READY
    assert storage.starts == []


async def test_where_the_start_fails_the_slot_is_free_and_the_patient_way_is_taken(
    app: Durable, storage: Watched
) -> None:
    work = declare_work(app)
    async with idle(app, concurrency=1):
        storage.failure = StorageUnavailable("away for a moment")
        for _ in range(3):
            handle = await work.enqueue()
            assert await handle.result(PATIENCE) == handle.execution_id
        storage.failure = None
        async with asyncio.timeout(PATIENCE):
            while not storage.starts:  # the executor is awake for a moment, for what it was told of
                await (await work.enqueue()).result(PATIENCE)


async def test_a_start_whose_answer_is_lost_runs_at_once(app: Durable, storage: Watched) -> None:
    work = declare_work(app)
    async with idle(app):
        storage.lost = StorageUnavailable("cut after the commit")
        handle = await work.enqueue()
        assert await handle.result(PATIENCE) == handle.execution_id
        record = await handle.execution()
        assert (record.attempts, record.deliveries, record.fence) == (1, 0, 2)


async def test_a_start_that_fails_is_told_to_its_caller_and_not_to_who_closes(app: Durable, storage: Watched) -> None:
    work = declare_work(app)
    await app.open()
    async with app.executor(**FAR) as executor:
        await soon(executor.quiet())
        storage.may_answer.clear()
        storage.lost = RuntimeError("for good")
        enqueueing = asyncio.ensure_future(work.enqueue())
        await soon(storage.has_started.wait())
        closing = asyncio.ensure_future(app.live.close())
        await turns(20)
        storage.may_answer.set()
        await soon(closing)
        with pytest.raises(RuntimeError, match="for good"):
            await enqueueing


async def test_a_transaction_of_the_caller_starts_nothing_before_its_commit(postgres: PostgresPlace) -> None:
    storage = Watched(postgres.storage())
    app = Durable(storage=storage, poll_interval="50ms")  # type: ignore[arg-type]
    work = declare_work(app)
    async with idle(app, poll_interval="50ms"):
        async with await psycopg.AsyncConnection.connect(postgres.dsn) as connection:
            handle = await work.enqueue(connection=connection)
        assert await handle.result(PATIENCE) == handle.execution_id
    assert storage.starts == []
