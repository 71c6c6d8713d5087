"""What was enqueued: found by task, arguments and options, and shown by an assertion that fails."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from durable import ChildResult, ConfigurationError, Durable, Retry, Spawn, Status, Task, TaskContext
from durable.testing import Kit, VirtualStorage, app_under_test


@dataclass
class Order:
    id: str
    grams: int = 1


@pytest.fixture
def send(app: Durable) -> Task[..., None]:
    @app.task(name="send_mail")
    async def send_mail(ctx: TaskContext, to: str, subject: str = "hello", *, order: Order | None = None) -> None: ...

    return send_mail


async def test_an_execution_is_found_by_its_task_and_any_of_its_arguments(
    app: Durable, storage: VirtualStorage, send: Task[..., None]
) -> None:
    async with app_under_test(app, storage=storage) as kit:
        handle = await send.enqueue("a@b.c", order=Order("42"))
        for found in (
            kit.assert_enqueued(send),
            kit.assert_enqueued(send, "a@b.c"),
            kit.assert_enqueued(send, to="a@b.c"),
            kit.assert_enqueued(send, subject="hello"),
            kit.assert_enqueued(send, order=Order("42", grams=1), to="a@b.c"),
        ):
            assert found.execution_id == handle.execution_id
            assert found.arguments == {"to": "a@b.c", "subject": "hello", "order": Order("42")}
        await kit.drain()
        assert kit.assert_enqueued(send, to="a@b.c").status == Status.COMPLETED


async def test_an_execution_is_found_by_any_of_its_options(
    app: Durable, storage: VirtualStorage, send: Task[..., None]
) -> None:
    async with app_under_test(app, storage=storage) as kit:
        at = kit.clock.now() + timedelta(days=1)
        retry = Retry(max_attempts=7)
        await send.enqueue(
            "a@b.c",
            queue="mail",
            priority=2,
            timeout="1m",
            retry=retry,
            max_deliveries=3,
            idempotency_key="k",
            run_at=at,
        )
        await send.enqueue("d@e.f", delay="90s")
        kit.assert_enqueued(
            send, queue="mail", priority=2, timeout=60, retry=retry, max_deliveries=3, idempotency_key="k", run_at=at
        )
        assert kit.assert_enqueued(send, delay="1m30s").arguments == {"to": "d@e.f", "subject": "hello", "order": None}
        for name, other in {"queue": "default", "priority": 1, "timeout": None, "idempotency_key": "l"}.items():
            assert kit.enqueued(send, to="a@b.c", **{name: other}) == []


async def test_enqueued_lists_everything_in_the_order_of_its_making(
    app: Durable, storage: VirtualStorage, send: Task[..., None]
) -> None:
    @app.task
    async def weigh(grams: int) -> int:
        return grams

    def total(name: str, ends: list[ChildResult[int]]) -> int:
        return sum(end.result() for end in ends)

    @app.parent(finalize=total)
    async def order(name: str) -> Spawn[str]:
        await send.enqueue("boss@b.c", name)
        return Spawn(name, [weigh.child(1), weigh.child(2)])

    pair = app.sequence("pair", weigh, weigh)
    door = app.sleeping("door", bool)
    async with app_under_test(app, storage=storage) as kit:
        await order.enqueue("o1")
        await kit.drain()
        await pair.enqueue(5)
        await door.enqueue("front")
        await kit.drain()
        calls = [(call.task_name, call.arguments) for call in kit.enqueued()]
        kit.assert_enqueued(pair, 5)
        kit.assert_enqueued(door, sleeping_id="front")
        assert [call.arguments for call in kit.enqueued(weigh, grams=2)] == [{"grams": 2}]
    assert calls[:2] == [
        ("order", {"name": "o1"}),
        ("send_mail", {"to": "boss@b.c", "subject": "o1", "order": None}),
    ]
    assert sorted(name for name, _ in calls[2:]) == ["door", "pair", "weigh", "weigh", "weigh", "weigh"]


async def test_a_failing_assertion_shows_what_is_there_the_nearest_first(
    app: Durable, storage: VirtualStorage, send: Task[..., None]
) -> None:
    @app.task
    async def other(n: int) -> None: ...

    async with app_under_test(app, storage=storage) as kit:
        await other.enqueue(1)
        await send.enqueue("a@b.c", "goodbye", queue="slow")
        await send.enqueue("a@b.c", delay="1h")
        await kit.drain()
        with pytest.raises(AssertionError) as caught:
            kit.assert_enqueued(send, to="x@y.z", subject="hello", queue="default")
    assert str(caught.value).splitlines() == [
        "send_mail(to='x@y.z', subject='hello', queue='default') was not enqueued; there are:",
        "  - send_mail(to='a@b.c', subject='hello', order=None): ready, due 2030-01-01 01:00:00+00:00",
        "      to='a@b.c', not 'x@y.z'",
        "  - send_mail(to='a@b.c', subject='goodbye', order=None): ready, due 2030-01-01 00:00:00+00:00",
        "      to='a@b.c', not 'x@y.z'; subject='goodbye', not 'hello'; queue='slow', not 'default'",
        "  - other(n=1): completed, due 2030-01-01 00:00:00+00:00",
    ]


async def test_a_failing_assertion_says_when_there_is_nothing(app: Durable, send: Task[..., None]) -> None:
    async with app_under_test(app) as kit:
        with pytest.raises(AssertionError, match=r"^send_mail\(\) was not enqueued; nothing was$"):
            kit.assert_enqueued(send)


async def test_a_failing_assertion_does_not_show_more_than_a_screen(app: Durable, send: Task[..., None]) -> None:
    async with app_under_test(app) as kit:
        await app.enqueue_calls([send.child(str(n)) for n in range(100)])
        with pytest.raises(AssertionError) as caught:
            kit.assert_enqueued(send, "nobody")
    lines = str(caught.value).splitlines()
    assert len(lines) < 50
    assert lines[-1] == "  - and 80 more"


async def test_input_that_the_app_cannot_read_is_shown_as_it_is(app: Durable) -> None:
    @app.task
    async def work(n: int) -> None: ...

    before = Durable()

    @before.task(name="gone")
    async def gone(n: int) -> None: ...

    @before.task(name="work")
    async def older(m: str) -> None: ...

    async with app_under_test(app) as kit:
        with before.override(storage=app.storage):
            async with before:
                await gone.enqueue(1)
                await older.enqueue("x")
        assert [str(call).split(": ready")[0] for call in kit.enqueued()] == [
            'gone: input {"n":1}', 'work: input {"m":"x"}',
        ]  # fmt: skip
        with pytest.raises(AssertionError, match="its input cannot be read"):
            kit.assert_enqueued(work, n=1)


@pytest.mark.parametrize(
    ("args", "expected", "message"),
    [
        ((), {"too": "a@b.c"}, "task 'send_mail': got an unexpected keyword argument 'too', and it is no option"),
        (("a", "b", "c"), {}, "too many positional arguments"),
        ((), {"ctx": None}, "got an unexpected keyword argument 'ctx'"),
        ((), {"connection": None}, "the option 'connection' cannot be compared"),
        ((), {"delay": "soon"}, "delay is 'soon'"),
    ],
)
async def test_a_name_that_can_never_match_is_refused(
    app: Durable, send: Task[..., None], args: tuple[Any, ...], expected: dict[str, Any], message: str
) -> None:
    async with app_under_test(app) as kit:
        await send.enqueue("a@b.c")
        with pytest.raises(ConfigurationError, match=message):
            kit.assert_enqueued(send, *args, **expected)
        with pytest.raises(ConfigurationError, match=message):
            kit.enqueued(send, *args, **expected)


async def test_arguments_without_a_task_are_refused(app: Durable) -> None:
    async with app_under_test(app) as kit:
        with pytest.raises(ConfigurationError, match="belong to a task"):
            kit.enqueued(to="a@b.c")


async def test_a_parameter_that_has_the_name_of_an_option_is_the_functions(app: Durable) -> None:
    @app.task
    async def plan(queue: str) -> None: ...

    async with app_under_test(app) as kit:
        await plan.enqueue(queue="a")
        assert kit.assert_enqueued(plan, queue="a").record.queue == "default"


async def test_what_it_gives_prints_as_a_call(app: Durable, send: Task[..., None]) -> None:
    async with app_under_test(app) as kit:
        await send.enqueue("a@b.c", "hi", delay="1h")
        assert call_text(kit) == "send_mail(to='a@b.c', subject='hi', order=None): ready, due 2030-01-01 01:00:00+00:00"


def call_text(kit: Kit) -> str:
    (call,) = kit.enqueued()
    return str(call)
