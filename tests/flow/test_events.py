"""Lifecycle events: what subscribers are told, and who is told."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from durable import (
    ConfigurationError,
    Durable,
    EventName,
    LifecycleEvent,
    NonRetryable,
    Retry,
    Spawn,
    TaskContext,
    constant,
)
from durable.codecs import ZlibCodec
from durable.events import Fact, TurnEnd, describe
from durable.events.facts import Describer
from durable.execution import Execution, Kind
from durable.kinds import RUNNERS
from durable.kinds.turn import Turn
from durable.notice import TakenNotices
from durable.outcomes import Outcome
from durable.rooms import run

from .place import LONG_AGO, PATIENCE, Place, running, soon, until
from .subscribers import QUICKLY, Seen


async def taken(app: Durable, subscriber: str) -> TakenNotices:
    """What waits for a subscriber, looked at from the side."""
    return await app.storage.take_notices(subscriber, holder="the test", limit=100, lease=0.001)


# --- what is told ----------------------------------------------------------------------------------------------------


async def test_a_completed_execution_is_told_without_its_payload(app: Durable) -> None:
    seen = Seen()
    app.events.subscribe(seen, name="seen")

    @app.task
    async def double(n: int) -> int:
        return 2 * n

    async with running(app):
        handle = await double.enqueue(21)
        (event,) = await seen.count(1)
        record = await handle.execution()

    assert (event.name, event.subject, event.kind, event.task, event.key) == (
        "execution.completed", handle.execution_id, "task", "double", None)  # fmt: skip
    assert event.at == record.finished_at
    assert (event.error, event.payload) == (None, None)
    assert event.data["duration_ms"] >= 0
    assert {name: event.data[name] for name in ("status", "attempt", "max_attempts", "queue", "root_id")} == {
        "status": "completed", "attempt": 1, "max_attempts": 1, "queue": "default", "root_id": handle.execution_id,
    }  # fmt: skip


async def test_payloads_are_told_to_who_asks_for_them_and_to_nobody_else(app: Durable) -> None:
    plain, full = Seen(), Seen()
    app.events.subscribe(plain, name="plain")
    app.events.subscribe(full, name="full", payloads=True)

    @app.task
    async def greet(name: str) -> str:
        return f"hello {name}"

    @app.task
    async def fail(name: str) -> None:
        raise NonRetryable("no")

    async with running(app):
        await greet.enqueue("secret")
        await full.count(1)
        await fail.enqueue("secret")
        await full.count(2)
        await plain.count(2)

    assert [event.payload for event in full.events] == [
        {"input": {"name": "secret"}, "output": "hello secret"}, {"input": {"name": "secret"}}]  # fmt: skip
    assert "secret" not in repr(plain.events)
    errors = [seen.events[1].error for seen in (plain, full)]
    assert [error and bool(error.traceback) for error in errors] == [False, True]


async def test_every_failing_attempt_is_told_with_its_real_error_and_what_follows(app: Durable) -> None:
    seen = Seen()
    app.events.subscribe(seen, name="seen")

    @app.task(retry=QUICKLY)
    async def charge(ctx: TaskContext) -> None:
        raise LookupError(f"card {ctx.attempt}")

    async with running(app):
        handle = await charge.enqueue()
        events = await seen.count(4)

    assert seen.names == ["execution.failed"] * 3 + ["execution.retry_exhausted"]
    assert [event.data.get("will_retry") for event in events] == [True, True, False, None]
    assert [event.data.get("retry_in_s") for event in events] == [0.0, 0.0, None, None]
    assert [event.data["attempt"] for event in events] == [1, 2, 3, 3]
    assert {event.error.type for event in events if event.error} == {"LookupError"}
    assert [event.error and event.error.message for event in events] == ["card 1", "card 2", "card 3", "card 3"]
    assert events[-1].data["reason"] == "max_attempts"
    assert {event.subject for event in events} == {handle.execution_id}
    assert len({event.id for event in events}) == 4


async def test_retries_that_end_with_the_time_for_them_are_told_so(app: Durable) -> None:
    seen = Seen()
    app.events.subscribe(seen, name="seen", names=["execution.retry_exhausted"])

    @app.task(retry=Retry(max_attempts=9, delay=constant("1h"), max_duration="1s"))
    async def late() -> None:
        raise LookupError

    async with running(app):
        await late.enqueue()
        (event,) = await seen.count(1)

    assert event.data["reason"] == "max_duration"


async def test_an_error_that_is_not_retried_exhausts_nothing(app: Durable) -> None:
    seen = Seen()
    app.events.subscribe(seen, name="seen")

    @app.task(retry=QUICKLY)
    async def refuse() -> None:
        raise NonRetryable("never")

    @app.task
    async def done() -> None: ...

    async with running(app):
        await refuse.enqueue()
        await seen.count(1)
        await done.enqueue()
        await seen.count(2)

    assert seen.names == ["execution.failed", "execution.completed"]


async def test_a_timeout_is_told_as_one(app: Durable) -> None:
    seen = Seen()
    app.events.subscribe(seen, name="seen")

    @app.task(timeout="10ms")
    async def stuck() -> None:
        await asyncio.Event().wait()

    async with running(app):
        await stuck.enqueue()
        (event,) = await seen.count(1)

    assert (event.name, event.data["will_retry"]) == ("execution.timed_out", False)
    assert event.error is not None
    assert event.error.type == "timed_out"


async def test_a_cancelled_tree_is_told_for_each_of_its_members(app: Durable) -> None:
    seen = Seen()
    app.events.subscribe(seen, name="seen", names=["execution.cancelled"])
    started = asyncio.Event()

    @app.task
    async def child() -> None:
        started.set()
        await asyncio.Event().wait()

    @app.parent()
    async def family() -> Spawn[None]:
        return Spawn(None, [child.child()])

    async with running(app):
        handle = await family.enqueue()
        await soon(started.wait())
        await handle.cancel(reason="not needed")
        events = await seen.count(2)

    assert events[0].subject == handle.execution_id
    assert events[0].error is not None
    assert (events[0].data["reason"], events[0].error.message) == ("not needed", "not needed")
    assert (events[1].task, events[1].data["root_id"]) == ("child", handle.execution_id)


async def test_a_client_without_an_event_loop_tells_too(place: Place) -> None:
    app, seen = place.app(), Seen()
    app.events.subscribe(seen, name="seen")

    @app.task(delay="1h")
    async def later() -> None: ...

    def cancel() -> str:
        with app.client() as client:
            handle = client.enqueue(later)
            handle.cancel()
            return handle.execution_id

    execution_id = await asyncio.to_thread(cancel)
    async with running(app):
        (event,) = await seen.count(1)
    assert (event.name, event.subject) == ("execution.cancelled", execution_id)


async def test_what_a_sleeping_task_met_is_told(app: Durable) -> None:
    seen = Seen()
    app.events.subscribe(seen, name="seen", payloads=True)
    door = app.sleeping("door", str, timeout="1h")
    soon_over = app.sleeping("soon over", str, timeout="1ms")

    async with running(app):
        await door.enqueue("woken")
        await door.wakeup("woken", "come in")
        await seen.count(1)
        await door.enqueue("failed")
        await door.wakeup_failed("failed", "locked")
        await seen.count(2)
        await door.wakeup("early", "before")
        await door.enqueue("early")
        await seen.count(3)
        await soon_over.enqueue("late")
        events = await seen.count(4)

    assert seen.names == ["execution.completed", "execution.failed", "execution.completed", "execution.timed_out"]
    assert [event.payload and event.payload.get("output") for event in events] == ["come in", None, "before", None]


async def test_a_lost_lease_and_a_poisoned_execution_are_told(place: Place) -> None:
    app, seen = place.app(), Seen()
    app.events.subscribe(seen, name="seen")

    @app.task(max_deliveries=2)
    async def deadly() -> None: ...

    async with app:
        handle = await deadly.enqueue()
    for number in range(2):
        async with app:
            await app.storage.claim(executor_id="dead", queues=["default"], task_names=["deadly"], limit=1, lease=60.0)
            await app.storage.count_starts([(handle.execution_id, 2 * number + 1)])
        place.tamper(handle.execution_id, lease_expires_at=LONG_AGO)
        async with running(app, queues=["another"]):
            await seen.count(number + 1)

    assert seen.names == ["execution.recovered", "execution.failed"]
    assert [event.error and event.error.type for event in seen.events] == ["lease_expired", "poisoned"]
    assert (seen.events[1].data["reason"], seen.events[1].data["will_retry"]) == ("poisoned", False)


async def test_an_end_that_cannot_be_written_is_told_as_what_it_became(app: Durable) -> None:
    seen = Seen()
    app.events.subscribe(seen, name="seen")
    door = app.sleeping("door", str)

    @app.parent()
    async def clash() -> Spawn[None]:
        return Spawn(None, [door.child("taken")])

    async with running(app):
        await door.enqueue("taken")
        await clash.enqueue()
        (event,) = await seen.count(1)

    assert event.error is not None
    assert (event.name, event.error.type) == ("execution.failed", "SleepingIdConflict")


async def test_a_late_end_is_not_told(place: Place) -> None:
    app, seen = place.app(), Seen()
    app.events.subscribe(seen, name="seen")
    began, go_on = asyncio.Event(), asyncio.Event()

    @app.task
    async def slow(ctx: TaskContext) -> str:
        began.set()
        await go_on.wait()
        return ctx.executor_id

    async with running(app) as executor:
        handle = await slow.enqueue()
        await soon(began.wait())
        place.tamper(handle.execution_id, lease_expires_at=LONG_AGO)
        await until(app, handle.execution_id, lambda record: record.deliveries == 2)
        go_on.set()
        await seen.count(2)
        assert executor.refused_count <= 1

    assert seen.names == ["execution.recovered", "execution.completed"]


async def test_what_a_payload_codec_hides_is_hidden_in_the_outbox_too(place: Place) -> None:
    app, seen = place.app(payload_codec=ZlibCodec()), Seen()
    app.events.subscribe(seen, name="seen", payloads=True)

    @app.task
    async def fail(name: str) -> None:
        raise NonRetryable(f"secret of {name}")

    seen.failures = 1
    async with running(app):
        await fail.enqueue("Ada")
        async with asyncio.timeout(PATIENCE):
            while not (stored := (await taken(app, "seen")).notices):
                pass
        (event,) = await seen.count(1)

    assert "Ada" not in repr(stored)
    assert event.error is not None
    assert (event.error.message, event.payload) == ("secret of Ada", {"input": {"name": "Ada"}})


async def test_a_kind_may_tell_of_its_turns_in_names_of_its_own(app: Durable, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, plain_runner = Seen(), RUNNERS[Kind.TASK]
    app.events.subscribe(seen, name="seen")

    async def runner(turn: Turn) -> Outcome:
        turn.attempt.about = "job 7"
        return await plain_runner(turn)

    def of_turn(end: TurnEnd) -> Iterator[Fact]:
        name = EventName.JOB_FAILED if end.is_failure else EventName.JOB_EXECUTED
        data = {"about": end.about, "outcome": type(end.outcome).__name__, "nothing": None}
        yield Fact(name, "job", "debounce", "mail", data, key="k", error=end.settlement.error)
        yield Fact(EventName.TASK_SCHEDULED, "job", "debounce", "mail", {}, key="k")

    def of_record(record: Execution) -> Iterator[Fact]:
        yield Fact(EventName.JOB_TERMINATED, "job", "debounce", "mail", {"id": record.id}, key="k")

    monkeypatch.setattr(describe, "DESCRIBERS", {Kind.TASK: Describer(of_turn, of_record)})
    monkeypatch.setattr(run, "RUNNERS", {**RUNNERS, Kind.TASK: runner})

    @app.task
    async def work(fails: bool) -> None:
        if fails:
            raise LookupError("no")

    async with running(app):
        await work.enqueue(False)
        await seen.count(2)
        await work.enqueue(True)
        await seen.count(4)
        later = await work.enqueue(True, delay="1h")
        await later.cancel()
        events = await seen.count(5)

    assert seen.names == ["job.executed", "task.scheduled", "job.failed", "task.scheduled", "job.terminated"]
    assert {(event.subject, event.kind, event.task, event.key) for event in events} == {
        ("job", "debounce", "mail", "k")}  # fmt: skip
    assert events[0].data == {"about": "job 7", "outcome": "Completed"}
    assert events[2].data == {"about": "job 7", "outcome": "NoneType"}
    assert events[2].error is not None
    assert events[2].error.message == "no"
    assert events[4].data == {"id": later.execution_id}


async def test_an_end_that_cannot_be_told_is_an_end_all_the_same(app: Durable, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_turn(end: TurnEnd) -> Iterator[Fact]:
        raise LookupError(end.turn.id)

    monkeypatch.setattr(describe, "DESCRIBERS", {Kind.TASK: Describer(of_turn, describe.facts_of_record)})
    app.events.subscribe(Seen(), name="seen")

    @app.task
    async def work() -> int:
        return 1

    async with running(app):
        handle = await work.enqueue()
        assert await handle.result(timeout=PATIENCE) == 1
        assert await app.events.pending() == {"seen": 0}


# --- to whom ---------------------------------------------------------------------------------------------------------


async def test_without_a_subscriber_nothing_is_written(app: Durable) -> None:
    @app.task(retry=QUICKLY)
    async def fail() -> None:
        raise LookupError

    async with running(app):
        handle = await fail.enqueue()
        await until(app, handle.execution_id, lambda record: record.is_finished)
        await (await fail.enqueue(delay="1h")).cancel()
        assert await app.storage.undelivered() == {}


async def test_what_nobody_wants_is_not_written(app: Durable) -> None:
    app.events.subscribe(Seen(failures=10**6), name="failures only", names=["execution.failed"])
    app.events.subscribe(Seen(failures=10**6), name="jobs only", names=["job.*", "debounce.*"])

    @app.task
    async def work(fails: bool) -> None:
        if fails:
            raise NonRetryable

    async with running(app):
        for fails in (False, True):
            handle = await work.enqueue(fails)
            await until(app, handle.execution_id, lambda record: record.is_finished)
        assert await app.events.pending() == {"failures only": 1, "jobs only": 0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["execution.complete"]}, "no event 'execution.complete'"),
        ({"names": ["exec*"]}, "no event"),
        ({"names": []}, "names is empty"),
        ({"names": "job.*"}, "give a list"),
        ({"names": 5}, "names is 5"),
        ({"names": [5]}, "names holds 5"),
        ({"name": " "}, "subscriber's name"),
        ({"name": "first"}, "there already"),
    ],
)
def test_a_subscription_that_cannot_be_meant_is_refused(options: dict[str, Any], message: str) -> None:
    app = Durable("memory:")
    app.events.subscribe(print, name="first")

    with pytest.raises(ConfigurationError, match=message):
        app.events.subscribe(print, **{"name": "second", **options})
    with pytest.raises(ConfigurationError, match="a function"):
        app.events.subscribe("print")  # type: ignore[type-var]


def test_a_decorated_subscriber_stays_a_function_and_has_its_name() -> None:
    app = Durable("memory:")

    @app.events.subscribe
    def bare(event: LifecycleEvent) -> None: ...

    @app.events.subscribe(names=["job.*"])
    async def with_options(event: LifecycleEvent) -> None: ...

    with pytest.raises(ConfigurationError, match="'bare'"):
        app.events.subscribe(bare)
    with pytest.raises(ConfigurationError, match="'with_options'"):
        app.events.subscribe(with_options)
    with pytest.raises(ConfigurationError, match="name="):
        app.events.subscribe(lambda _: None)


async def test_who_subscribes_when_an_executor_runs_is_refused(app: Durable) -> None:
    async with running(app):
        with pytest.raises(ConfigurationError, match="before it starts"):
            app.events.subscribe(Seen(), name="late")
