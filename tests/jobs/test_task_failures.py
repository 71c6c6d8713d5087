"""Task jobs: handlers that fail, on_error, and the end of a job from within."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from durable import Durable, Retry, constant
from durable.jobs import (
    ErrorContext,
    EventContext,
    ExecuteContext,
    IdleContext,
    JobExecutionError,
    JobValidationError,
    ShownStatus,
    Task,
    TaskJobContext,
)
from durable.testing import VirtualStorage, app_under_test
from tests.flow.place import soon

from .stage import lose_lease

HOUR = timedelta(hours=1)
TWICE = Retry(max_attempts=2, delay=constant("1m"), jitter=0)

State = list[str]
Context = TaskJobContext[State]


@dataclass
class Handlers:
    """What each handler does, by its name; it is noted before."""

    acts: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    errors: list[tuple[Exception, str, State | None, State | None]] = field(default_factory=list)

    def act(self, name: str, ctx: Context) -> None:
        self.notes.append(name)
        if name in self.acts:
            self.acts[name](ctx)


def declared(app: Durable, *, on_error: bool = True, **options: Any) -> tuple[Task[State, str], Handlers]:
    handlers = Handlers()
    job = app.task_job("order", state=State, event=str, **options)

    @job.on_event
    async def on_event(ctx: EventContext[State, str], event: str) -> None:
        handlers.act(event, ctx)

    @job.execute
    def execute(ctx: ExecuteContext[State]) -> None:
        handlers.act("execute", ctx)

    @job.on_idle
    async def on_idle(ctx: IdleContext[State]) -> None:
        handlers.act("on_idle", ctx)

    if on_error:

        @job.on_error
        async def failed(ctx: ErrorContext[State], error: Exception) -> None:
            handlers.errors.append((error, ctx.error_source, ctx.state, ctx.attempted_state))
            handlers.act("on_error", ctx)

    return job, handlers


def add(word: str) -> Callable[[Context], None]:
    return lambda ctx: ctx.set_state([*(ctx.state or []), word])


def plan(when: str) -> Callable[[Context], None]:
    return lambda ctx: ctx.schedule(when)


def fail(error: Exception) -> Callable[[Context], None]:
    def act(ctx: Context) -> None:
        raise error

    return act


def then(*acts: Callable[[Context], Any]) -> Callable[[Context], None]:
    def act(ctx: Context) -> None:
        for each in acts:
            each(ctx)

    return act


async def test_tsk_10_what_on_idle_raises_fails_the_turn_once(app: Durable, storage: VirtualStorage) -> None:
    """The turn is one whole: what its event handler did is not kept, and the event is kept as failed."""
    job, handlers = declared(app)
    handlers.acts = {"a": add("a"), "b": then(add("b"), plan("1h")), "on_idle": then(add("idle"), fail(OSError("no")))}
    async with app_under_test(app, storage=storage) as kit:
        with pytest.raises(JobExecutionError, match="no"):
            await soon(job.send("k", "a", wait=True))
        await kit.clock.advance("1h")
        assert handlers.notes == ["a", "on_idle"]
        assert handlers.errors == []
        status = await job.status("k")
        assert (status.status, status.event_count, status.pending_count) == (ShownStatus.IDLE, 1, 0)
        assert status.last_error is not None
        assert status.last_error.type == "OSError"
        assert (await job.state("k")).state is None
        await job.send("k", "b", wait=True)
        assert (await job.state("k")).state == ["b"]


async def test_tsk_12_a_failed_event_changes_nothing_and_is_not_handled_again(
    app: Durable, storage: VirtualStorage
) -> None:
    job, handlers = declared(app, on_error=False)
    broken = then(add("broken"), plan("5h"), fail(ValueError("no")))
    handlers.acts = {"a": then(add("a"), plan("1h")), "broken": broken, "c": add("c")}
    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "a", wait=True)
        planned = kit.clock.now() + HOUR
        with pytest.raises(JobExecutionError, match=r"task:order:k.*no") as caught:
            await job.send("k", "broken", wait=True)
        assert caught.value.error is not None
        assert (caught.value.error.type, caught.value.error.message) == ("ValueError", "no")
        assert (await job.state("k")).state == ["a"]
        status = await job.status("k")
        assert (status.scheduled_at, status.event_count, status.pending_count) == (planned, 2, 0)
        assert status.last_error == caught.value.error

        await job.send("k", "c", wait=True)
        assert (await job.status("k")).last_error is None
        await kit.clock.advance("1d")
        assert handlers.notes == ["a", "broken", "c", "execute", "on_idle"]


async def test_tsk_12_a_failed_event_can_be_redriven(app: Durable, storage: VirtualStorage) -> None:
    job, handlers = declared(app, on_error=False)
    handlers.acts = {"a": fail(ValueError("no")), "b": add("b")}
    async with app_under_test(app, storage=storage) as kit:
        assert (await job.redrive("k")).redriven is False
        await job.send("k", "a")
        await job.send("k", "b")
        await kit.drain()
        handlers.acts["a"] = add("a")
        assert (await job.redrive("k")).redriven is True
        await kit.drain()
        assert (await job.state("k")).state == ["b", "a"]
        assert (await job.redrive("k")).redriven is False
        assert (await job.status("k")).event_count == 2


async def test_tsk_12_with_retry_an_event_is_handled_again_before_the_next(
    app: Durable, storage: VirtualStorage
) -> None:
    job, handlers = declared(app, on_error=False, retry=TWICE)
    handlers.acts = {"a": then(add("a"), fail(ValueError("no"))), "b": add("b")}
    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "a")
        await job.send("k", "b")
        await kit.drain()
        assert handlers.notes == ["a"]
        status = await job.status("k")
        assert (status.attempt, status.next_run_at) == (1, kit.clock.now() + timedelta(minutes=1))
        handlers.acts["a"] = add("a")
        await kit.clock.advance("1m")
        assert handlers.notes == ["a", "a", "b", "on_idle"]
        assert (await job.state("k")).state == ["a", "b"]


async def test_tsk_12_a_failed_execute_takes_its_plan_with_it(app: Durable, storage: VirtualStorage) -> None:
    job, handlers = declared(app, on_error=False)
    handlers.acts = {"a": then(add("a"), plan("1h")), "execute": then(add("x"), plan("1h"), fail(ValueError("no")))}
    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "a")
        await kit.clock.advance("1d")
        assert handlers.notes == ["a", "execute"]
        status = await job.status("k")
        assert (status.status, status.scheduled_at, status.execute_count) == (ShownStatus.IDLE, None, 0)
        assert status.last_error is not None
        assert (await job.state("k")).state == ["a"]
        with pytest.raises(JobExecutionError, match="no"):
            await job.trigger("k", wait=True)


async def test_tsk_13_on_error_gets_the_error_the_state_of_before_and_the_attempted_one(
    app: Durable, storage: VirtualStorage
) -> None:
    job, handlers = declared(app)
    error, other = ValueError("no"), KeyError("neither")
    handlers.acts = {
        "a": add("a"),
        "broken": then(add("broken"), fail(error)),
        "on_error": add("recovered"),
        "execute": then(add("x"), fail(other)),
    }
    async with app_under_test(app, storage=storage):
        await job.send("k", "a", wait=True)
        await job.send("k", "broken", wait=True)
        assert handlers.errors == [(error, "on_event", ["a"], ["a", "broken"])]
        assert (await job.state("k")).state == ["a", "recovered"]
        assert (await job.status("k")).last_error is None
        await job.trigger("k", wait=True)
        assert handlers.errors[1] == (other, "execute", ["a", "recovered"], ["a", "recovered", "x"])
        assert (await job.state("k")).state == ["a", "recovered", "recovered"]
        assert handlers.notes == ["a", "on_idle", "broken", "on_error", "on_idle", "execute", "on_error", "on_idle"]
        status = await job.status("k")
        assert (status.execute_count, status.event_count) == (1, 2)


async def test_tsk_13_a_state_changed_in_place_is_seen_as_attempted_and_not_kept(
    app: Durable, storage: VirtualStorage
) -> None:
    def spoil(ctx: Context) -> None:
        assert ctx.state is not None
        ctx.state.append("spoilt")
        raise ValueError("no")

    job, handlers = declared(app)
    handlers.acts = {"a": add("a"), "broken": spoil}
    async with app_under_test(app, storage=storage):
        await job.send("k", "a", wait=True)
        await job.send("k", "broken", wait=True)
        assert handlers.errors[0][2:] == (["a"], ["a", "spoilt"])
        assert (await job.state("k")).state == ["a"]


@pytest.mark.parametrize(
    ("failed", "recovery", "hours", "is_idle"),
    [("5h", "1h", 1, False), ("5h", None, 2, False), (None, "1h", 1, False), ("5h", "cancel", None, True)],
)
async def test_tsk_13_what_on_error_plans_stands_and_what_the_failed_handler_planned_does_not(
    app: Durable, storage: VirtualStorage, failed: str | None, recovery: str | None, hours: int | None, is_idle: bool
) -> None:
    """Before it, two hours were planned."""
    job, handlers = declared(app)
    before = then(plan(failed), fail(ValueError("no"))) if failed else fail(ValueError("no"))
    handlers.acts = {"a": plan("2h"), "broken": before}
    if recovery == "cancel":
        handlers.acts["on_error"] = lambda ctx: ctx.cancel_schedule()
    elif recovery is not None:
        handlers.acts["on_error"] = plan(recovery)
    async with app_under_test(app, storage=storage) as kit:
        start = kit.clock.now()
        await job.send("k", "a", wait=True)
        await job.send("k", "broken", wait=True)
        assert (await job.status("k")).scheduled_at == (None if hours is None else start + hours * HOUR)
        assert ("on_idle" in handlers.notes) is is_idle


async def test_tsk_13_a_state_that_does_not_fit_is_an_error_for_on_error(app: Durable, storage: VirtualStorage) -> None:
    job, handlers = declared(app)
    handlers.acts = {"a": add("a"), "bad": lambda ctx: ctx.set_state(5)}
    async with app_under_test(app, storage=storage):
        await job.send("k", "a", wait=True)
        await job.send("k", "bad", wait=True)
        ((error, source, before, attempted),) = handlers.errors
        assert isinstance(error, JobValidationError)
        assert error.instance_id == "task:order:k"
        assert (source, before, attempted) == ("on_event", ["a"], 5)
        assert (await job.state("k")).state == ["a"]


async def test_a_state_that_does_not_fit_fails_the_turn(app: Durable, storage: VirtualStorage) -> None:
    job, handlers = declared(app, on_error=False)
    handlers.acts = {"a": add("a"), "bad": lambda ctx: ctx.set_state({"no": "list"})}
    async with app_under_test(app, storage=storage):
        await job.send("k", "a", wait=True)
        with pytest.raises(JobExecutionError, match="state") as caught:
            await job.send("k", "bad", wait=True)
        assert caught.value.error is not None
        assert caught.value.error.type == "JobValidationError"
        assert (await job.state("k")).state == ["a"]


async def test_tsk_14_what_on_error_raises_fails_the_turn(app: Durable, storage: VirtualStorage) -> None:
    job, handlers = declared(app)
    handlers.acts = {
        "a": add("a"),
        "broken": fail(ValueError("first")),
        "on_error": then(add("recovered"), plan("1h"), fail(OSError("second"))),
    }
    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "a", wait=True)
        with pytest.raises(JobExecutionError, match="second") as caught:
            await job.send("k", "broken", wait=True)
        assert caught.value.error is not None
        assert caught.value.error.type == "OSError"
        assert (await job.state("k")).state == ["a"]
        assert (await job.status("k")).scheduled_at is None
        await kit.clock.advance("1d")
        assert handlers.notes == ["a", "on_idle", "broken", "on_error"]


@pytest.mark.parametrize("where", ["a", "execute", "on_idle", "on_error"])
async def test_tsk_15_terminate_ends_the_job_from_each_handler(
    app: Durable, storage: VirtualStorage, where: str
) -> None:
    went_on: list[str] = []

    def terminate(ctx: Context) -> None:
        try:
            ctx.set_state(["changed"])
            ctx.schedule("1h")
            ctx.terminate("done with it")
        except Exception:
            went_on.append("swallowed")
        went_on.append("after")

    job, handlers = declared(app)
    handlers.acts = {"first": add("first"), "a": plan("1h"), "execute": lambda ctx: None, where: terminate}
    if where == "on_error":
        handlers.acts["a"] = fail(ValueError("no"))
    if where == "on_idle":
        del handlers.acts["a"]
        handlers.acts["first"] = then(add("first"), plan("9h"))
    async with app_under_test(app, storage=storage) as kit:
        if where != "on_idle":
            await job.send("k", "first", wait=True)
        await job.send("k", "a")
        await kit.clock.advance("1d")
        assert went_on == []
        status = await job.status("k")
        assert (status.status, status.reason) == (ShownStatus.TERMINATED, "done with it")
        assert (status.scheduled_at, status.next_run_at, status.pending_count) == (None, None, 0)
        assert (await job.state("k")).state != ["changed"]
        handlers.acts = {}
        again = await job.send("k", "anew", wait=True)
        assert again.created
        assert (await job.state("k")).state is None


async def test_tsk_22_a_crash_after_the_effect_of_an_event_delivers_it_once_more_with_its_id(
    app: Durable, storage: VirtualStorage
) -> None:
    effects: list[tuple[str | None, str, int]] = []
    job = app.task_job("order", state=State, event=str)

    @job.on_event
    async def on_event(ctx: EventContext[State, str], event: str) -> None:
        effects.append((ctx.event_id, ctx.execution_id, ctx.event_number))
        ctx.set_state([*(ctx.state or []), event])
        if len(effects) == 1:
            await lose_lease(kit, storage)

    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "a", event_id="given")
        await kit.clock.advance("1d")
        assert effects == [("given", effects[0][1], 1)] * 2
        assert (await job.state("k")).state == ["a"]
        assert kit.executor.refused_count == 1
        assert (await job.send("k", "b", wait=True)).duplicate is False
        assert effects[2][0] not in (None, "given")
        assert (await job.status("k")).event_count == 2


async def test_tsk_23_a_job_that_is_ended_during_a_turn_keeps_nothing_of_it(
    app: Durable, storage: VirtualStorage
) -> None:
    job, other = app.task_job("order", state=State, event=str), app.task_job("other", state=State, event=str)
    entered, went_on = asyncio.Event(), asyncio.Event()
    handled: list[tuple[str, State | None, int]] = []

    @job.on_event
    async def on_event(ctx: EventContext[State, str], event: str) -> None:
        handled.append((event, ctx.state, ctx.epoch))
        ctx.set_state([*(ctx.state or []), event])
        ctx.send(other, "k", event)
        if event == "a":
            entered.set()
            try:
                await went_on.wait()
            except asyncio.CancelledError:
                return  # a handler that does not let itself be stopped

    @other.on_event
    async def on_other(ctx: EventContext[State, str], event: str) -> None:
        handled.append((event, None, 0))

    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "a")
        await soon(entered.wait())
        await job.send("k", "waits")
        assert (await job.terminate("k", reason="over")).terminated
        assert (await job.terminate("k")).reason == "not_found"
        assert (await job.status("k")).reason == "over"
        assert (await job.send("k", "b", wait=False)).created
        went_on.set()
        await kit.drain()
        assert handled == [("a", None, 1), ("b", None, 2), ("b", None, 0)]
        assert (await job.state("k")).state == ["b"]


async def test_tsk_24_a_send_in_a_handler_is_part_of_its_commit(app: Durable, storage: VirtualStorage) -> None:
    job, handlers = declared(app, on_error=False, retry=TWICE)
    received: list[tuple[str, str]] = []
    other = app.task_job("other", state=State, event=str)

    @other.on_event
    async def on_event(ctx: EventContext[State, str], event: str) -> None:
        received.append((ctx.key, event))

    send = lambda ctx: ctx.send(other, "x", "from a")  # noqa: E731
    handlers.acts = {"a": then(send, fail(ValueError("no")))}
    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "a")
        await kit.drain()
        assert received == []
        assert (await other.status("x")).status is ShownStatus.NOT_FOUND
        handlers.acts = {
            "a": then(send, lambda ctx: ctx.send(other, "y", "too"), lambda ctx: ctx.send(job, "k", "self"))
        }
        await kit.clock.advance("1m")
        assert sorted(received) == [("x", "from a"), ("y", "too")]
        assert handlers.notes == ["a", "a", "on_idle", "self", "on_idle"]


async def test_tsk_24_what_a_failed_handler_sent_is_not_sent_by_on_error(app: Durable, storage: VirtualStorage) -> None:
    job, handlers = declared(app)
    received: list[str] = []
    other = app.task_job("other", state=State, event=str)

    @other.on_event
    def on_event(ctx: EventContext[State, str], event: str) -> None:
        received.append(event)

    handlers.acts = {
        "a": then(lambda ctx: ctx.send(other, "x", "from a"), fail(ValueError("no"))),
        "on_error": lambda ctx: ctx.send(other, "x", "from on_error"),
    }
    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "a")
        await kit.drain()
        assert received == ["from on_error"]


async def test_tsk_24_a_lost_turn_sends_nothing(app: Durable, storage: VirtualStorage) -> None:
    received: list[str] = []
    attempts: list[str] = []
    job = app.task_job("order", state=State, event=str)
    other = app.task_job("other", state=State, event=str)

    @job.on_event
    async def on_event(ctx: EventContext[State, str], event: str) -> None:
        attempts.append(event)
        ctx.send(other, "x", f"attempt {len(attempts)}", event_id="once")
        if len(attempts) == 1:
            await lose_lease(kit, storage)

    @other.on_event
    async def on_other(ctx: EventContext[State, str], event: str) -> None:
        received.append(event)

    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "a")
        await kit.clock.advance("1d")
        assert (len(attempts), received) == (2, ["attempt 2"])


async def test_tsk_24_what_the_receiver_refuses_is_refused_at_the_call(app: Durable, storage: VirtualStorage) -> None:
    job, handlers = declared(app, on_error=False)
    other = app.task_job("other", state=State, event=int)

    @other.on_event
    async def on_other(ctx: EventContext[State, int], event: int) -> None: ...

    handlers.acts = {"a": lambda ctx: ctx.send(other, "x", "no number")}
    async with app_under_test(app, storage=storage):
        with pytest.raises(JobExecutionError, match="task:other:x") as caught:
            await job.send("k", "a", wait=True)
        assert caught.value.error is not None
        assert caught.value.error.type == "JobValidationError"
        assert (await other.status("x")).status is ShownStatus.NOT_FOUND
