"""Task jobs: what the handlers are given, what they plan, and what a turn leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from durable import ConfigurationError, Durable
from durable.jobs import (
    EventContext,
    ExecuteContext,
    IdleContext,
    JobValidationError,
    SendResult,
    ShownStatus,
    Task,
    TaskJobContext,
    TaskState,
    TriggerResult,
)
from durable.testing import VirtualStorage, app_under_test

from .stage import Gate

HOUR = timedelta(hours=1)


@dataclass
class Seen:
    events: list[str]


Events = Task[Seen, str]
Context = TaskJobContext[Seen]
Acts = dict[str, Callable[[Context], None]]


def added(state: Seen | None, event: str) -> Seen:
    return Seen([*(state.events if state else []), event])


def acting(app: Durable, acts: Acts) -> tuple[Events, list[str]]:
    """A Task job that does to its context what `acts` says for each event, for "execute" and for idle; it notes all."""
    notes: list[str] = []
    job = app.task_job("order", state=Seen, event=str)

    def act(name: str, ctx: Context) -> None:
        notes.append(name)
        if name in acts:
            acts[name](ctx)

    @job.on_event
    async def on_event(ctx: EventContext[Seen, str], event: str) -> None:
        act(event, ctx)

    @job.execute
    async def execute(ctx: ExecuteContext[Seen]) -> None:
        act("execute", ctx)

    @job.on_idle
    async def on_idle(ctx: IdleContext[Seen]) -> None:
        act(f"idle after {ctx.idle_reason}", ctx)

    return job, notes


async def test_tsk_01_the_first_event_finds_no_state_and_sets_one(app: Durable, storage: VirtualStorage) -> None:
    found: list[tuple[Seen | None, bool, int, int, str, str]] = []
    job = app.task_job("order", state=Seen, event=str)

    @job.on_event
    async def on_event(ctx: EventContext[Seen, str], event: str) -> None:
        found.append((ctx.state, ctx.is_first_event, ctx.event_number, ctx.event_count, ctx.event, ctx.instance_id))
        ctx.set_state(added(ctx.state, event))

    async with app_under_test(app, storage=storage) as kit:
        start = kit.clock.now()
        sent = await job.send("k", "a", wait=True)
        assert sent == SendResult("task:order:k", created=True, scheduled_at=None, duplicate=False)
        assert await job.state("k") == TaskState(True, Seen(["a"]), None, start)
        assert (await job.send("k", "b", wait=True)).created is False
        assert await job.state("k") == TaskState(True, Seen(["a", "b"]), None, start)
        assert found == [
            (None, True, 1, 1, "a", "task:order:k"),
            (Seen(["a"]), False, 2, 2, "b", "task:order:k"),
        ]
        status = await job.status("k")
        assert (status.status, status.created_at) == (ShownStatus.IDLE, start)
        assert (status.event_count, status.pending_count, status.execute_count) == (2, 0, 0)


async def test_tsk_02_only_the_first_event_is_the_first_also_without_a_state(
    app: Durable, storage: VirtualStorage
) -> None:
    found: list[tuple[Seen | None, bool, int]] = []
    job = app.task_job("order", state=Seen, event=str)

    @job.on_event
    def on_event(ctx: EventContext[Seen, str], event: str) -> None:
        found.append((ctx.state, ctx.is_first_event, ctx.event_number))

    async with app_under_test(app, storage=storage) as kit:
        for event in ("a", "b", "c"):
            await job.send("k", event)
        await kit.drain()
        assert found == [(None, True, 1), (None, False, 2), (None, False, 3)]
        await job.terminate("k")
        assert (await job.send("k", "d", wait=True)).created
        assert found[3] == (None, True, 1)


async def test_tsk_03_an_event_that_does_not_fit_leaves_no_trace(app: Durable, storage: VirtualStorage) -> None:
    job, notes = acting(app, {})
    async with app_under_test(app, storage=storage) as kit:
        with pytest.raises(JobValidationError, match=r"task:order:k.*event"):
            await job.send("k", 1)  # type: ignore[arg-type]
        assert (await job.status("k")).status is ShownStatus.NOT_FOUND
        assert await app.jobs.count() == 0
        await job.send("k", "a", wait=True)
        with pytest.raises(JobValidationError):
            await job.send("k", None)  # type: ignore[arg-type]
        assert (await job.status("k")).event_count == 1
        await kit.drain()
        assert notes == ["a", "idle after on_event"]


def schedule(*whens: Any) -> Callable[[Context], None]:
    """Calls of schedule in their order; None cancels."""

    def act(ctx: Context) -> None:
        for when in whens:
            if when is None:
                ctx.cancel_schedule()
            else:
                ctx.schedule(when)

    return act


@pytest.mark.parametrize(
    ("calls", "hours"),
    [(("1h", "2h"), 2), (("2h", "1h"), 1), (("1h", None), None), ((None, "1h"), 1), (("1h", None, HOUR * 3), 3)],
)
async def test_tsk_04_the_last_call_of_a_turn_wins(
    app: Durable, storage: VirtualStorage, calls: tuple[Any, ...], hours: int | None
) -> None:
    job, notes = acting(app, {"a": schedule(*calls)})
    async with app_under_test(app, storage=storage) as kit:
        start = kit.clock.now()
        await job.send("k", "a", wait=True)
        status = await job.status("k")
        if hours is None:
            assert (status.status, status.scheduled_at) == (ShownStatus.IDLE, None)
            assert notes == ["a", "idle after on_event"]
            return
        assert (status.status, status.scheduled_at) == (ShownStatus.ACTIVE, start + hours * HOUR)
        assert status.next_run_at == start + hours * HOUR
        await kit.clock.advance_to(start + hours * HOUR - timedelta(microseconds=1))
        assert notes == ["a"]
        await kit.clock.advance(timedelta(microseconds=1))
        assert notes == ["a", "execute", "idle after execute"]


@pytest.mark.parametrize(("second", "hours"), [("1h", 1), ("3h", 3), (None, None)])
async def test_tsk_05_a_later_event_replaces_what_was_planned(
    app: Durable, storage: VirtualStorage, second: str | None, hours: int | None
) -> None:
    job, notes = acting(app, {"a": schedule("2h"), "b": schedule(second)})
    async with app_under_test(app, storage=storage) as kit:
        start = kit.clock.now()
        assert (await job.send("k", "a", wait=True)).scheduled_at is None
        assert (await job.send("k", "b", wait=True)).scheduled_at == start + 2 * HOUR
        planned = None if hours is None else start + hours * HOUR
        assert (await job.status("k")).scheduled_at == planned
        assert (await job.send("k", "c", wait=True)).scheduled_at == planned
        await kit.clock.advance("1d")
        assert notes.count("execute") == (0 if hours is None else 1)


@pytest.mark.parametrize(
    "when",
    [
        datetime(2020, 1, 1, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=timezone(HOUR)),
        timedelta(0),
        "0s",
    ],
)
async def test_tsk_06_a_moment_that_has_passed_means_now(
    app: Durable, storage: VirtualStorage, when: datetime | timedelta | str
) -> None:
    job, notes = acting(app, {"a": schedule(when)})
    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "a")
        await kit.drain()
        assert notes == ["a", "execute", "idle after execute"]


async def test_tsk_06_a_moment_may_be_given_in_any_time_zone(app: Durable, storage: VirtualStorage) -> None:
    acts: Acts = {}
    job, notes = acting(app, acts)
    async with app_under_test(app, storage=storage) as kit:
        moment = kit.clock.now() + HOUR
        acts["a"] = schedule(moment.astimezone(timezone(-9 * HOUR)))
        await job.send("k", "a", wait=True)
        assert (await job.status("k")).scheduled_at == moment
        await kit.clock.advance("1h")
        assert notes[1:] == ["execute", "idle after execute"]


@pytest.mark.parametrize("when", [5, 5.0, True, datetime(2030, 1, 1), "5 apples", "-5m", timedelta(-1), None, b"5m"])  # noqa: DTZ001
async def test_tsk_06_what_names_no_moment_is_refused_at_the_call(
    app: Durable, storage: VirtualStorage, when: Any
) -> None:
    refused: list[ConfigurationError] = []

    def act(ctx: Context) -> None:
        ctx.schedule("1h")
        with pytest.raises(ConfigurationError, match="when is") as caught:
            ctx.schedule(when)
        refused.append(caught.value)

    job, _ = acting(app, {"a": act})
    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "a", wait=True)
        assert len(refused) == 1
        assert (await job.status("k")).scheduled_at == kit.clock.now() + HOUR


async def test_tsk_07_the_plan_is_seen_as_the_turn_leaves_it_and_then_as_committed(
    app: Durable, storage: VirtualStorage
) -> None:
    seen: list[datetime | None] = []

    def look(*whens: Any) -> Callable[[Context], None]:
        def act(ctx: Context) -> None:
            seen.append(ctx.scheduled_at)
            for when in whens:
                schedule(when)(ctx)
                seen.append(ctx.scheduled_at)

        return act

    start = datetime(2040, 1, 1, tzinfo=UTC)
    acts = {"a": look("1h", start + 2 * HOUR), "b": look(None), "c": look()}
    job, _ = acting(app, acts)
    async with app_under_test(app, storage=storage, at=start):
        await job.send("k", "a", wait=True)
        assert (await job.state("k")).scheduled_at == start + 2 * HOUR
        await job.send("k", "b", wait=True)
        await job.send("k", "c", wait=True)
    assert seen == [None, start + HOUR, start + 2 * HOUR, start + 2 * HOUR, None, None]


async def test_tsk_08_after_the_timer_a_job_with_nothing_planned_is_idle_and_told_so(
    app: Durable, storage: VirtualStorage
) -> None:
    job, notes = acting(app, {"a": schedule("1h")})
    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "a")
        await kit.clock.advance("1h")
        assert notes == ["a", "execute", "idle after execute"]
        status = await job.status("k")
        assert (status.status, status.scheduled_at, status.next_run_at) == (ShownStatus.IDLE, None, None)
        assert status.execute_count == 1
        await kit.clock.advance("1d")
        assert len(notes) == 3


async def test_tsk_08_execute_knows_its_moment_and_sees_nothing_planned(app: Durable, storage: VirtualStorage) -> None:
    seen: list[tuple[datetime | None, datetime | None, int]] = []
    job = app.task_job("order", state=Seen, event=str)

    @job.on_event
    async def on_event(ctx: EventContext[Seen, str], event: str) -> None:
        ctx.schedule(event)

    @job.execute
    async def execute(ctx: ExecuteContext[Seen]) -> None:
        seen.append((ctx.scheduled_for, ctx.scheduled_at, ctx.execute_count))
        if ctx.execute_count < 3:
            ctx.schedule("1h")

    async with app_under_test(app, storage=storage) as kit:
        start = kit.clock.now()
        await job.send("k", "1h")
        await kit.clock.advance("1d")
        await job.trigger("k", wait=True)
    assert seen == [(start + n * HOUR, None, n) for n in (1, 2, 3)] + [(None, None, 4)]


async def test_tsk_09_on_idle_is_called_when_nothing_is_planned_and_not_otherwise(
    app: Durable, storage: VirtualStorage
) -> None:
    acts: Acts = {"b": schedule("1h"), "d": schedule(None)}
    job, notes = acting(app, acts)
    async with app_under_test(app, storage=storage) as kit:
        for event in ("a", "b", "c"):
            await job.send("k", event, wait=True)
        assert notes == ["a", "idle after on_event", "b", "c"]
        await job.send("k", "d", wait=True)
        assert notes[4:] == ["d", "idle after on_event"]
        await kit.clock.advance("1d")
        assert len(notes) == 6


async def test_tsk_09_on_idle_may_plan_and_is_called_again_at_the_next_idle(
    app: Durable, storage: VirtualStorage
) -> None:
    job, notes = acting(app, {"idle after on_event": schedule("1h")})
    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "a", wait=True)
        assert (await job.status("k")).scheduled_at == kit.clock.now() + HOUR
        await job.send("k", "b", wait=True)
        assert notes == ["a", "idle after on_event", "b"]
        await kit.clock.advance("1h")
        assert notes[3:] == ["execute", "idle after execute"]


async def test_tsk_09_on_idle_is_not_called_while_events_wait(app: Durable, storage: VirtualStorage) -> None:
    gate = Gate()
    notes: list[str] = []
    hold = app.task_job("hold", state=Seen, event=str)

    @hold.on_event
    async def on_event(ctx: EventContext[Seen, str], event: str) -> None:
        notes.append(event)
        if event == "a":
            await gate.hold()

    @hold.on_idle
    async def on_idle(ctx: IdleContext[Seen]) -> None:
        notes.append("idle")

    async with app_under_test(app, storage=storage) as kit:
        await hold.send("k", "a")
        await gate.reached()
        for event in ("b", "c"):
            await hold.send("k", event)
        gate.open()
        await kit.drain()
        # "a" was alone when its turn began, "b" was not, "c" was again.
        assert notes == ["a", "idle", "b", "c", "idle"]


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "def"])
async def test_tsk_11_every_handler_reads_what_the_turn_has_written(
    app: Durable, storage: VirtualStorage, is_async: bool
) -> None:
    seen: dict[str, list[Seen | None]] = {}
    job = app.task_job("order", state=Seen, event=str)

    def write(name: str, ctx: Context) -> None:
        before = ctx.state
        ctx.set_state(added(ctx.state, name))
        after = ctx.state
        ctx.update_state(lambda state: added(state, "updated"))
        seen[name] = [before, after, ctx.state]

    def failing(ctx: EventContext[Seen, str], event: str) -> None:
        write("on_event", ctx)
        if event == "fail":
            raise ValueError(event)

    handlers: dict[str, Callable[..., Any]] = {
        "on_event": failing,
        "execute": lambda ctx: write("execute", ctx),
        "on_idle": lambda ctx: write("on_idle", ctx),
        "on_error": lambda ctx, error: write("on_error", ctx),
    }
    for name, handler in handlers.items():
        getattr(job, name)(as_async(handler) if is_async else handler)

    async with app_under_test(app, storage=storage):
        await job.send("k", "a", wait=True)
        first = Seen(["on_event", "updated"])
        assert seen["on_event"] == [None, Seen(["on_event"]), first]
        second = Seen([*first.events, "on_idle", "updated"])
        assert seen["on_idle"] == [first, Seen([*first.events, "on_idle"]), second]
        assert (await job.state("k")).state == second

        await job.trigger("k", wait=True)
        assert seen["execute"][0] == second
        third = seen["execute"][2]
        assert seen["on_idle"][0] == third == added(added(second, "execute"), "updated")
        fourth = seen["on_idle"][2]

        await job.send("k", "fail", wait=True)
        assert seen["on_error"][:2] == [fourth, added(fourth, "on_error")]
        assert seen["on_idle"][0] == seen["on_error"][2]
        assert (await job.state("k")).state == seen["on_idle"][2]


def as_async(handler: Callable[..., Any]) -> Callable[..., Any]:
    async def called(ctx: Any, *rest: Any) -> None:
        handler(ctx, *rest)

    async def called_with_two(ctx: Any, second: Any) -> None:
        handler(ctx, second)

    return called if handler.__code__.co_argcount == 1 else called_with_two


async def test_tsk_11_update_state_without_a_state_does_nothing(app: Durable, storage: VirtualStorage) -> None:
    job, _ = acting(app, {"a": lambda ctx: ctx.update_state(lambda state: added(state, "never"))})
    async with app_under_test(app, storage=storage):
        await job.send("k", "a", wait=True)
        assert (await job.state("k")).state is None


async def test_tsk_16_a_trigger_runs_execute_and_keeps_what_is_planned(app: Durable, storage: VirtualStorage) -> None:
    job, notes = acting(app, {"a": schedule("1h")})
    async with app_under_test(app, storage=storage) as kit:
        assert await job.trigger("k") == TriggerResult("task:order:k", triggered=False)
        assert await job.trigger("k", wait=True) == TriggerResult("task:order:k", triggered=False)
        assert (await job.status("k")).status is ShownStatus.NOT_FOUND
        await job.send("k", "a", wait=True)
        planned = kit.clock.now() + HOUR
        assert await job.trigger("k", wait=True) == TriggerResult("task:order:k", triggered=True)
        status = await job.status("k")
        assert (status.execute_count, status.event_count, status.scheduled_at) == (1, 1, planned)
        assert notes == ["a", "execute"]
        await kit.clock.advance("1h")
        assert notes == ["a", "execute", "execute", "idle after execute"]
        assert (await job.status("k")).execute_count == 2
        await job.terminate("k")
        assert (await job.trigger("k")).triggered is False


async def test_tsk_16_triggers_while_a_turn_runs_give_one_more(app: Durable, storage: VirtualStorage) -> None:
    gate = Gate()
    runs: list[int] = []
    job = app.task_job("order", state=Seen, event=str)

    @job.on_event
    async def on_event(ctx: EventContext[Seen, str], event: str) -> None:
        await gate.hold()

    @job.execute
    async def execute(ctx: ExecuteContext[Seen]) -> None:
        runs.append(ctx.execute_count)

    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "a")
        await gate.reached()
        done = [await job.trigger("k") for _ in range(5)]
        assert {(trigger.triggered, trigger.queued) for trigger in done} == {(True, True)}
        gate.open()
        await kit.drain()
        assert runs == [1]


async def test_tsk_17_no_job_and_a_job_without_a_state_are_told_apart(app: Durable, storage: VirtualStorage) -> None:
    job, _ = acting(app, {"b": lambda ctx: ctx.set_state(Seen([]))})
    async with app_under_test(app, storage=storage) as kit:
        assert await job.state("k") == TaskState(False, None)
        await job.send("k", "a")
        assert await job.state("k") == TaskState(True, None, None, kit.clock.now())
        await job.send("k", "b", wait=True)
        assert await job.state("k") == TaskState(True, Seen([]), None, kit.clock.now())


async def test_a_state_that_is_set_to_none_is_none(app: Durable, storage: VirtualStorage) -> None:
    acts: Acts = {
        "set": lambda ctx: ctx.set_state(Seen(["x"])),
        "unset": lambda ctx: ctx.set_state(None),  # type: ignore[arg-type]
    }
    job, _ = acting(app, acts)
    async with app_under_test(app, storage=storage):
        for event, state in [("set", Seen(["x"])), ("unset", None)]:
            await job.send("k", event, wait=True)
            assert await job.state("k") == TaskState(True, state, None, (await job.status("k")).created_at)
