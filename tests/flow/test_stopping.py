"""How an executor stops: what was claimed is written, or given back, and nothing is written afterwards."""

import asyncio
from collections.abc import Callable, Generator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from durable import Completion, Durable, Executor, OnComplete, TaskContext, WorkflowContext, executor
from durable.execution import Claimed, Settled, Settlement, Status
from durable.memory import MemoryStorage
from durable.memory.operation import MemoryOperation
from durable.memory.store import Store
from durable.workflow_rows import Checkpoint, Checkpointed

from .place import PATIENCE, PostgresPlace, soon, turns

LONG = "10m"
TURNS = 200
"""Of the event loop: far more than a shutdown takes that waits for nothing."""


class _Gated(MemoryOperation[Any]):
    """An operation that begins when the gate is open, or whose answer comes only then."""

    def __init__(self, operation: MemoryOperation[Any], gate: "_Gate", *, is_answer: bool) -> None:
        self._operation = operation
        self._gate = gate
        self._is_answer = is_answer

    def __await__(self) -> Generator[Any, None, Any]:
        return self._when_open().__await__()

    async def _when_open(self) -> Any:
        answer = await self._operation if self._is_answer else None
        self._gate.met.set()
        try:
            await self._gate.opened.wait()
        except asyncio.CancelledError:
            self._gate.cancelled += 1
            raise
        return answer if self._is_answer else await self._operation


class _Gate:
    def __init__(self) -> None:
        self.met = asyncio.Event()
        self.opened = asyncio.Event()
        self.cancelled = 0

    async def open_when_stopping(self, stopping: Executor) -> None:
        """When it has long stopped if it does not wait for this gate."""
        while not stopping._shutdown_signal.is_set():
            await turns(1)
        await turns(TURNS)
        self.opened.set()


class _Storage(MemoryStorage):
    """Has a gate before one of its verbs, or behind it."""

    gate: _Gate
    gated = ""

    def settle(self, settlements: Sequence[Settlement], **options: Any) -> MemoryOperation[Settled]:
        return self._past("settle", super().settle(settlements, **options))

    def checkpoint(self, rows: Sequence[Checkpoint], **options: Any) -> MemoryOperation[Checkpointed]:
        return self._past("checkpoint", super().checkpoint(rows, **options))

    def claim(self, **options: Any) -> MemoryOperation[list[Claimed]]:
        return self._past("claim", super().claim(**options), is_answer=True)

    def count_starts(self, *args: Any) -> MemoryOperation[frozenset[str]]:
        return self._past("count_starts", super().count_starts(*args), is_answer=True)

    def _past(self, verb: str, operation: MemoryOperation[Any], *, is_answer: bool = False) -> MemoryOperation[Any]:
        return _Gated(operation, self.gate, is_answer=is_answer) if verb == self.gated else operation


@pytest.fixture
def storage() -> _Storage:
    storage = _Storage(store=Store(lambda: datetime.now(UTC)))
    storage.gate = _Gate()
    return storage


@pytest.fixture
def app(storage: _Storage) -> Durable:
    return Durable(storage=storage)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Gives a step of the shutdown no time but what the grace leaves."""
    return lambda name: monkeypatch.setattr(executor, name, 0.0)


async def test_the_end_of_a_handler_has_what_the_handlers_leave_of_the_grace(
    app: Durable, storage: _Storage, impatient: Callable[[str], None]
) -> None:
    @app.task
    async def work() -> int:
        return 7

    impatient("_FLUSH_LIMIT")
    storage.gated = "settle"
    async with app:
        async with app.executor(poll_interval="50ms", grace=LONG) as stopping:
            handle = await work.enqueue()
            await soon(storage.gate.met.wait())
            opening = asyncio.create_task(storage.gate.open_when_stopping(stopping))
        await opening
        assert await handle.status() is Status.COMPLETED


async def test_what_a_claim_took_whose_answer_came_late_is_given_back(
    app: Durable, storage: _Storage, impatient: Callable[[str], None]
) -> None:
    @app.task
    async def work() -> None:
        raise AssertionError("it is not to start")

    impatient("_CLAIM_LIMIT")
    async with app:
        handle = await work.enqueue()
        storage.gated = "claim"
        async with app.executor(poll_interval="50ms", grace=LONG) as stopping:
            await soon(storage.gate.met.wait())
            opening = asyncio.create_task(storage.gate.open_when_stopping(stopping))
        await opening
        assert await handle.status() is Status.READY


async def test_what_was_about_to_start_is_given_back(
    app: Durable, storage: _Storage, impatient: Callable[[str], None]
) -> None:
    @app.task(max_deliveries=1)
    async def work() -> None:
        raise AssertionError("it is not to start")

    impatient("_CLAIM_LIMIT")
    storage.gated = "count_starts"
    async with app:
        handle = await work.enqueue()
        async with app.executor(poll_interval="50ms", grace=LONG):
            await soon(storage.gate.met.wait())
        record = await handle.execution()
        assert (record.status, record.deliveries) == (Status.READY, 0)


async def test_no_checkpoint_of_a_stopped_executor_is_left_on_its_way(app: Durable, storage: _Storage) -> None:
    async def one() -> int:
        return 1

    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        return await ctx.step(one)

    storage.gated = "checkpoint"
    async with app:
        handle = await flow.enqueue()
        async with app.executor(poll_interval="50ms", grace="10ms"):
            await soon(storage.gate.met.wait())
        assert storage.gate.cancelled == 1
        assert await handle.status() is Status.READY


async def test_a_callback_that_ignores_its_end_keeps_no_end_from_being_written(postgres: PostgresPlace) -> None:
    app = postgres.app()
    began, door, is_over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @app.task
    async def deaf(ctx: TaskContext, end: Completion[int, None]) -> None:
        began.set()
        while not door.is_set():
            try:
                await door.wait()
            except asyncio.CancelledError:
                continue
        is_over.set()

    @app.task
    async def work() -> int:
        return 7

    async with app:
        try:
            async with app.executor(poll_interval="50ms", lease=LONG, grace="10ms"):
                handle = await work.enqueue(on_complete=OnComplete(deaf, mode="transaction"))
                await soon(began.wait())
            assert await handle.status() is Status.COMPLETED
        finally:
            door.set()
        await soon(is_over.wait())
        assert await handle.result(PATIENCE) == 7
