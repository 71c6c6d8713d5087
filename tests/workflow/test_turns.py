"""Turns of workflows at their seams: what comes while a turn reads or writes, and what is refused or lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg import sql

from durable import ChildFailed, Durable, NonRetryable, Retry, Status, StepFailed, WorkflowContext, constant
from durable.storage import Storage
from durable.testing import VirtualStorage, app_under_test
from durable.workflow import turn as turns
from storage_postgres.testing.virtual import VirtualPostgres
from tests.jobs.crew import Door, crew, reached, turned


class After:
    """Something happens after the n-th call of a verb, before its caller gets the answer."""

    def __init__(self, storage: Storage, verb: str, action: Callable[[], Awaitable[None]], *, call: int = 1) -> None:
        self._make: Callable[..., Any] = getattr(storage, verb)
        self._action = action
        self._left = call
        setattr(storage, verb, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._left -= 1
        operation = self._make(*args, **kwargs)
        return operation if self._left else _Followed(operation, self._action)


class _Followed:
    def __init__(self, operation: Any, action: Callable[[], Awaitable[None]]) -> None:
        self._operation = operation
        self._action = action

    def __await__(self) -> Generator[Any, None, Any]:
        return self._run().__await__()

    async def _run(self) -> Any:
        result = await self._operation
        await self._action()
        return result


async def test_a_stop_that_comes_before_the_turn_has_begun_reaches_it(app: Durable, storage: VirtualStorage) -> None:
    door = Door()

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("go", str)
        await ctx.step(door.hold)

    async with crew(storage, app) as (kit,):
        handle = await flow.enqueue()
        await kit.drain()
    async with crew(storage, app) as (kit,):

        async def stop() -> None:
            await flow.handle(handle.execution_id).cancel()
            while (await kit.app.storage.get([handle.execution_id]))[0].needs_cancel:  # type: ignore[union-attr]
                await turned()

        After(kit.app.storage, "histories", stop)
        await flow.handle(handle.execution_id).signal("go", "now")
        await kit.drain()
        assert await flow.handle(handle.execution_id).status() is Status.CANCELLED


async def test_a_step_that_ends_while_messages_are_read_is_not_lost(app: Durable, storage: VirtualStorage) -> None:
    door = Door()

    async def slow() -> str:
        await door.hold()
        return "done"

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        return await ctx.step(slow)

    async with app_under_test(app, storage=storage) as kit:

        async def end_the_step() -> None:
            door.open()
            for _ in range(20):
                await turned()

        After(kit.app.storage, "histories", end_the_step)
        handle = await flow.enqueue()
        kit.executor.wake()
        await reached(door)
        await handle.signal("nobody waits for this", 1)
        await kit.drain()
        assert await handle.result(timeout=0) == "done"


async def test_a_message_that_comes_while_the_turn_writes_is_not_missed(app: Durable, storage: VirtualStorage) -> None:
    door = Door()

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        return await ctx.wait_first(ctx.step(door.hold), ctx.wait_signal("go", str, timeout="1d"))  # type: ignore[arg-type]

    async with app_under_test(app, storage=storage) as kit:
        handles = []

        async def send() -> None:
            await handles[0].signal("go", "went")
            while (await kit.app.storage.get([handles[0].execution_id]))[0].needs_cancel:  # type: ignore[union-attr]
                await turned()

        After(kit.app.storage, "checkpoint", send)
        handles.append(await flow.enqueue())
        await kit.drain()
        assert await handles[0].result(timeout=0) == "went"


async def test_one_that_continued_as_new_waits_in_peace(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext, total: int) -> int:
        ctx.continue_as_new(total + await ctx.wait_signal("add", int))

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue(0)
        for _ in range(3):
            await handle.signal("add", 1)
        await kit.drain()
        record = await handle.execution()
        assert (record.status, record.iteration) == (Status.WAITING, 3)


async def test_a_signal_that_a_task_waits_for_when_it_continues_as_new_is_kept(
    app: Durable, storage: VirtualStorage
) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext, is_first: bool) -> str:
        if is_first:
            waiting = asyncio.create_task(ctx.wait_signal("late", str))
            await ctx.wait_signal("go", str)
            del waiting
            ctx.continue_as_new(False)
        return await ctx.wait_signal("late", str)

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue(True)
        await kit.drain()
        entered = asyncio.Event()

        async def send() -> None:
            if not entered.is_set():
                entered.set()
                await handle.signal("late", "kept")

        After(kit.app.storage, "histories", send)
        await handle.signal("go", "now")
        await kit.drain()
        assert await handle.result(timeout=0) == "kept"


async def test_a_stop_does_not_cut_the_undoing_short(app: Durable, storage: VirtualStorage) -> None:
    door, undone = Door(), list[str]()

    async def undo(what: str) -> None:
        if what == "second":
            await door.hold()
        undone.append(what)

    async def fail() -> None:
        raise NonRetryable("no")

    @app.workflow(timeout="1h")
    async def flow(ctx: WorkflowContext) -> None:
        ctx.on_rollback(undo, "first")
        ctx.on_rollback(undo, "second")
        await ctx.step(fail)

    @flow.finalize
    async def last(ctx: WorkflowContext) -> None:
        await ctx.sleep("2h")
        undone.append("last")

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        kit.executor.wake()
        await reached(door)
        assert (await handle.cancel()).outcome == "requested"
        for _ in range(20):
            await turned()
        door.open()
        await kit.clock.advance("3h")
        assert await handle.status() is Status.FAILED
        assert undone == ["second", "first", "last"]


async def test_what_is_put_out_of_memory_runs_no_clean_up(app: Durable, storage: VirtualStorage) -> None:
    ran: list[str] = []

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.sleep("1h")

    @flow.finalize
    async def last(ctx: WorkflowContext) -> None:
        ran.append("last")

    async with crew(storage, app) as (kit,):
        await flow.enqueue()
        await kit.drain()
    assert ran == []


async def test_a_child_that_was_let_go_of_does_not_hide_the_end_of_the_next(
    app: Durable, storage: VirtualStorage
) -> None:
    @app.workflow
    async def stays(ctx: WorkflowContext) -> str:
        try:
            return await ctx.wait_signal("never", str)
        finally:
            await ctx.sleep("1d")

    @app.task
    async def quick(what: str) -> str:
        return what

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[str]:
        first = await ctx.wait_first(ctx.child(stays), ctx.wait_signal("go", str))
        return [first, await ctx.child(quick.child("second", delay="1h"))]

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        await handle.signal("go", "first")
        await kit.clock.advance("1h")
        assert await handle.result(timeout=0) == ["first", "second"]


async def test_a_child_that_is_let_go_of_before_it_is_stored_is_cancelled(
    app: Durable, storage: VirtualStorage
) -> None:
    @app.workflow
    async def other(ctx: WorkflowContext) -> str:
        return await ctx.wait_signal("never", str)

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.wait_first(ctx.signal(ctx.execution_id, "hello"), ctx.child(other))  # type: ignore[arg-type]
        await ctx.sleep("1h")

    async with app_under_test(app, storage=storage) as kit:
        await flow.enqueue()
        await kit.drain()
        (child,) = kit.enqueued(other)
        assert child.status is Status.CANCELLED


async def test_a_sleeping_child_whose_id_is_taken_fails_and_the_workflow_goes_on(
    app: Durable, storage: VirtualStorage
) -> None:
    approval = app.sleeping("approval", str)

    async def add(a: int, b: int) -> int:
        return a + b

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[object]:
        step = asyncio.create_task(ctx.step(add, 1, 2))
        try:
            await ctx.child(approval, "taken")
        except ChildFailed as failed:
            return [failed.error.type if failed.error else "", await ctx.child(approval, "free"), await step]
        return []

    async with app_under_test(app, storage=storage) as kit:
        await approval.enqueue("taken")
        handle = await flow.enqueue()
        await kit.drain()
        await approval.wakeup("free", "granted")
        await kit.drain()
        assert await handle.result(timeout=0) == ["SleepingIdConflict", "granted", 3]


async def test_the_timeout_of_a_workflow_counts_from_its_first_start(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow(timeout="1h")
    async def flow(ctx: WorkflowContext) -> str:
        await ctx.sleep("30m")
        return "done"

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue(delay="1d")
        await kit.clock.advance("25h")
        assert await handle.result(timeout=0) == "done"


async def test_what_came_after_the_timeout_is_for_the_next_who_waits(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[str]:
        try:
            return ["in time", await ctx.wait_signal("go", str, timeout="1h")]
        except TimeoutError:
            return ["late", await ctx.wait_signal("go", str)]

    async with crew(storage, app) as (kit,):
        handle = await flow.enqueue()
        await kit.drain()
        storage.move_to(storage.now().replace(hour=2))
        await handle.signal("go", "went")
        await kit.drain()
        assert await handle.result(timeout=0) == ["late", "went"]


async def test_a_step_that_is_deaf_to_its_end_commits_nothing(app: Durable, durable_postgres: VirtualPostgres) -> None:
    door = Door()

    async def deaf(connection: Any) -> str:
        door.entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "never mind"
        return ""

    async def rest() -> None:
        for _ in range(20):
            await turned()

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        went = await ctx.wait_first(ctx.transaction(deaf), ctx.wait_signal("go", str))
        await ctx.step(rest)
        return went

    async with app_under_test(app, storage=durable_postgres) as kit:
        handle = await flow.enqueue()
        kit.executor.wake()
        await reached(door)
        await handle.signal("go", "went")
        await kit.drain()
        assert await handle.result(timeout=0) == "went"
        (history,) = await kit.app.storage.histories([(handle.execution_id, 0, 0)])
        assert [entry.key for entry in history.entries if entry.kind == "step"] == ["rest#1"]


@pytest.fixture
def table(durable_postgres: VirtualPostgres) -> sql.Identifier:
    name = sql.Identifier(durable_postgres.schema, "written")
    with psycopg.connect(durable_postgres.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("create table {} (n integer unique deferrable initially deferred)").format(name))
    return name


def rows(storage: VirtualPostgres, table: sql.Identifier) -> list[int]:
    with psycopg.connect(storage.dsn, autocommit=True) as connection:
        return [n for (n,) in connection.execute(sql.SQL("select n from {} order by n").format(table))]


async def test_a_commit_that_is_refused_is_a_failed_attempt_of_its_step(
    app: Durable, durable_postgres: VirtualPostgres, table: sql.Identifier
) -> None:
    tries: list[int] = []

    async def note(connection: psycopg.AsyncConnection[Any], n: int) -> int:
        await connection.execute(sql.SQL("insert into {} values (%s)").format(table), [n])
        return n

    @app.task(retry=Retry(3, constant("1m"), jitter=0))
    async def note_again(connection: psycopg.AsyncConnection[Any]) -> int:
        tries.append(len(tries))
        return await note(connection, 1 if len(tries) < 3 else 3)

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[object]:
        one = await ctx.transaction(note, 1)
        try:
            await ctx.transaction(note, 1)
        except StepFailed as failed:
            return [one, failed.error.type, await ctx.transaction(note, 2), await ctx.transaction(note_again)]
        return []

    async with app_under_test(app, storage=durable_postgres) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("5m")
        assert await handle.result(timeout=0) == [1, "UniqueViolation", 2, 3]
        assert (rows(durable_postgres, table), tries) == ([1, 2, 3], [0, 1, 2])


async def test_a_step_that_goes_on_after_an_error_of_sql_has_failed(
    app: Durable, durable_postgres: VirtualPostgres, table: sql.Identifier
) -> None:
    async def note(connection: psycopg.AsyncConnection[Any]) -> str:
        with suppress(psycopg.Error):
            await connection.execute("select 1 / 0")
        return "all is well"

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        try:
            return await ctx.transaction(note)
        except StepFailed:
            return "failed"

    async with app_under_test(app, storage=durable_postgres) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert await handle.result(timeout=0) == "failed"


async def test_a_stop_rolls_back_the_transactions_that_wait_for_their_checkpoint(
    app: Durable, durable_postgres: VirtualPostgres, table: sql.Identifier
) -> None:
    """Three are ready at once, and the body needs the one that is written first."""
    written = list[int]()
    all_written = asyncio.Event()

    async def note(connection: psycopg.AsyncConnection[Any], n: int) -> int:
        await connection.execute(sql.SQL("insert into {} values (%s)").format(table), [n])
        written.append(n)
        if len(written) == 3:
            all_written.set()
        await all_written.wait()
        return n

    async def rest() -> None:
        for _ in range(20):
            await turned()

    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        first = await ctx.wait_first(*(ctx.transaction(note, n) for n in (1, 2, 3)))
        await ctx.step(rest)
        return first

    async with app_under_test(app, storage=durable_postgres) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert rows(durable_postgres, table) == [await handle.result(timeout=0)]
        assert len(written) == 3
        (history,) = await kit.app.storage.histories([(handle.execution_id, 0, 0)])
        assert len([entry for entry in history.entries if entry.kind == "step"]) == 2


async def test_a_long_history_is_warned_of_once_whatever_its_thousandth_entry_is(
    app: Durable, storage: VirtualStorage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_WARN_AT", 10)

    async def note() -> None:
        """A step."""

    @app.workflow
    async def flow(ctx: WorkflowContext, first: int) -> None:
        await ctx.gather(*(ctx.sleep(0) for _ in range(first)))
        for n in range(4):
            ctx.publish("n", n)
            await ctx.step(note)

    async with app_under_test(app, storage=storage) as kit:
        for first in range(3):
            handle = await flow.enqueue(first)
            with caplog.at_level(logging.WARNING, logger="durable"):
                await kit.drain()
            (history,) = await kit.app.storage.histories([(handle.execution_id, 0, 0)])
            assert len(history.entries) >= 8
            warned = [record for record in caplog.records if "entries in its history" in record.message]
            assert len(warned) == (1 if len(history.entries) >= 10 else 0), history.entries
            caplog.clear()
