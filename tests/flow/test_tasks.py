"""From enqueue to result: both colours of function, typed values, options, and what a handler knows of itself."""

import asyncio
import contextvars
import logging
import threading
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from durable import Durable, Status, TaskContext

from .place import LONG_AGO, PATIENCE, Place, running, soon, until


class Colour(Enum):
    RED = "red"


@dataclass
class Line:
    article: str
    price: Decimal


class Order(BaseModel):
    lines: list[Line]
    at: datetime
    note: str | None = None


class Box(TypedDict):
    size: int


async def test_an_async_function_gives_its_result(app: Durable) -> None:
    @app.task
    async def add(a: int, b: int = 1) -> int:
        return a + b

    async with running(app):
        assert await (await add.enqueue(2, 3)).result(PATIENCE) == 5
        assert await (await add.enqueue(2)).result(PATIENCE) == 3
        assert await (await add.enqueue(a=2, b=5)).result(PATIENCE) == 7


async def test_a_sync_function_runs_in_a_thread_and_gives_its_result(app: Durable) -> None:
    @app.task
    def where() -> str:
        return threading.current_thread().name

    async with running(app):
        name = await (await where.enqueue()).result(PATIENCE)
    assert name != threading.current_thread().name


async def test_a_task_stays_callable_as_the_function_it_was(app: Durable, place: Place) -> None:
    @app.task
    async def double(n: int) -> int:
        return 2 * n

    @app.task
    def triple(n: int) -> int:
        return 3 * n

    assert (await double(4), triple(4)) == (8, 12)
    assert place.count() == 0


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Order, Order(lines=[Line("tea", Decimal("3.10"))], at=datetime(2026, 1, 2, 3, tzinfo=UTC))),
        (list[Line], [Line("tea", Decimal("0.1")), Line("milk", Decimal("1E+3"))]),
        (Box, {"size": 3}),
        (Colour, Colour.RED),
        (UUID, UUID(int=7)),
        (date, date(2024, 2, 29)),
        (timedelta, timedelta(days=2, microseconds=3)),
        (bytes, b"\x00\xff\x80"),
        (set[int], {1, 2, 3}),
        (tuple[int, str], (1, "x")),
        (dict[str, list[float]], {"a": [0.1, 1e300], "": []}),
        (int, 2**200),
        (str, "… 𝄞 \\ \" ' {} \u2028"),
        (str | None, None),
        (Any, {"deep": [None, True, 1.5, {"x": []}]}),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value)[:20],
)
async def test_values_come_back_as_the_types_that_were_sent(app: Durable, annotation: Any, value: Any) -> None:
    seen: list[Any] = []

    async def echo(value):  # type: ignore[no-untyped-def]
        seen.append(value)
        return value

    echo.__annotations__.update(value=annotation, **{"return": annotation})
    task = app.task(echo)
    async with running(app):
        result = await (await task.enqueue(value)).result(PATIENCE)
    assert (seen, result) == ([value], value)
    assert type(seen[0]) is type(result) is type(value)


async def test_the_context_says_who_and_where_the_attempt_is(app: Durable) -> None:
    seen: dict[str, Any] = {}

    @app.task
    async def look(ctx: TaskContext, n: int) -> int:
        seen.update(
            id=ctx.execution_id, root=ctx.root_id, parent=ctx.parent_id, index=ctx.child_index, name=ctx.task_name,
            attempt=ctx.attempt, most=ctx.max_attempts, iteration=ctx.iteration, error=ctx.previous_error,
            executor=ctx.executor_id, finalize=ctx.is_finalize,
            signals=(ctx.cancel_signal.is_set(), ctx.shutdown_signal.is_set()),
        )  # fmt: skip
        ctx.check()
        return n

    async with running(app) as executor:
        handle = await look.enqueue(1)
        await handle.result(PATIENCE)
        assert seen == {
            "id": handle.execution_id, "root": handle.execution_id, "parent": None, "index": None, "name": "look",
            "attempt": 1, "most": 1, "iteration": 0, "error": None, "executor": executor.id, "finalize": False,
            "signals": (False, False),
        }  # fmt: skip
        assert (await handle.execution()).executor_id == executor.id


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "thread"])
async def test_heartbeat_details_are_seen_while_the_handler_runs(app: Durable, is_async: bool) -> None:
    go = threading.Event()

    @app.task
    async def work(ctx: TaskContext) -> None:
        ctx.heartbeat({"done": 1})
        ctx.heartbeat({"done": 2})
        await asyncio.to_thread(go.wait, PATIENCE)

    @app.task
    def work_in_thread(ctx: TaskContext) -> None:
        ctx.heartbeat({"done": 1})
        ctx.heartbeat({"done": 2})
        go.wait(PATIENCE)

    async with running(app):
        handle = await (work if is_async else work_in_thread).enqueue()
        record = await until(app, handle.execution_id, lambda record: record.progress == '{"done":2}')
        assert record.status == Status.RUNNING
        go.set()
        await handle.result(PATIENCE)


async def test_higher_priority_is_claimed_first_and_equals_in_the_order_of_their_coming(app: Durable) -> None:
    order: list[str] = []

    @app.task
    async def note(name: str) -> None:
        order.append(name)

    async with app:
        for name, priority in [("c1", 0), ("d", -4), ("b", 1), ("c2", 0), ("a", 4)]:
            await note.enqueue(name, priority=priority)
        handles = [await note.enqueue("e", priority=-4)]
        async with app.executor(concurrency=1, poll_interval="50ms"):
            await app.wait(handles, timeout=PATIENCE)
    assert order == ["a", "b", "c1", "c2", "d", "e"]


async def test_an_executor_leaves_other_queues_alone(app: Durable) -> None:
    @app.task(queue="mail")
    async def send() -> str:
        return "sent"

    @app.task
    async def other() -> str:
        return "done"

    async with app:
        sent = await send.enqueue()
        moved = await other.enqueue(queue="mail")
        async with app.executor(poll_interval="50ms"):
            assert await (await other.enqueue()).result(PATIENCE) == "done"
            assert [await sent.status(), await moved.status()] == [Status.READY] * 2
        async with app.executor(queues=["mail", "default"], poll_interval="50ms"):
            assert [await sent.result(PATIENCE), await moved.result(PATIENCE)] == ["sent", "done"]


async def test_nothing_starts_before_its_delay_is_over(app: Durable) -> None:
    @app.task(delay="200ms")
    async def late() -> None: ...

    async with running(app):
        handle = await late.enqueue()
        await handle.result(PATIENCE)
        record = await handle.execution()
        assert record.due_at - record.created_at == timedelta(milliseconds=200)
        assert record.started_at is not None
        assert record.started_at >= record.due_at
        sooner = await late.enqueue(delay=0)
        await sooner.result(PATIENCE)
        assert (await sooner.execution()).delay == 0


async def test_run_at_in_the_past_means_now_and_in_the_future_waits(app: Durable) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    async with running(app):
        later = await work.enqueue(1, run_at=datetime.now(UTC) + timedelta(hours=1))
        past = await work.enqueue(2, run_at=LONG_AGO)
        assert await past.result(PATIENCE) == 2
        record = await past.execution()
        assert record.due_at == record.created_at
        record = await later.execution()
        assert (record.status, record.attempts) == (Status.READY, 0)


async def test_the_version_of_the_definition_is_kept_with_the_execution(app: Durable) -> None:
    @app.task(version=3)
    async def work() -> None: ...

    async with app:
        assert (await (await work.enqueue()).execution()).task_version == 3


async def test_arguments_that_have_the_names_of_options_go_to_the_function(app: Durable) -> None:
    @app.task
    async def plan(queue: str, delay: int) -> str:
        return f"{queue} {delay}"

    async with running(app):
        named = await plan.enqueue(queue="a", delay=3)
        assert await named.result(PATIENCE) == "a 3"
        both = await plan.with_options(priority=2, idempotency_key="k").enqueue("b", delay=4)
        assert await both.result(PATIENCE) == "b 4"
        record = await both.execution()
        assert (record.queue, record.priority, record.delay) == ("default", 2, 0)


async def test_a_sync_handler_sees_context_variables_of_its_own_attempt_only(app: Durable) -> None:
    variable = contextvars.ContextVar("variable", default=0)

    @app.task
    def bump() -> int:
        variable.set(variable.get() + 1)
        return variable.get()

    async with running(app):
        handles = await app.enqueue_calls([bump.child() for _ in range(20)])
        assert [await handle.result(PATIENCE) for handle in handles] == [1] * 20


async def test_no_payload_of_an_execution_is_logged(app: Durable, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    @app.task
    async def fails(secret: str) -> None:
        raise ValueError(f"cannot use {secret}")

    @app.task
    async def works(ctx: TaskContext, secret: str) -> str:
        ctx.heartbeat(secret)
        return secret

    async with running(app):
        await app.wait([await fails.enqueue("canary"), await works.enqueue("canary")], timeout=PATIENCE)
    assert "canary" not in caplog.text


async def test_handlers_of_one_executor_run_side_by_side(app: Durable) -> None:
    all_here = asyncio.Barrier(20)

    @app.task
    async def meet() -> None:
        await soon(all_here.wait())

    async with running(app, concurrency=20):
        done, left = await app.wait([await meet.enqueue() for _ in range(20)], timeout=PATIENCE)
    assert (len(done), left) == (20, set())


async def test_no_more_handlers_run_than_the_concurrency_allows(app: Durable) -> None:
    now = 0
    most = 0

    @app.task
    async def work() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.to_thread(lambda: None)
        now -= 1

    async with running(app, concurrency=3):
        handles = await app.enqueue_calls([work.child() for _ in range(60)])
        done, _ = await app.wait(handles, timeout=PATIENCE)
    assert (len(done), most) == (60, 3)
