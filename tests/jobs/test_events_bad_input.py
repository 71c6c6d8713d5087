"""Debounce and Task: what is refused, when, and in which words. Nothing is stored by what is refused."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from durable import (
    AlreadyRegistered,
    ConfigurationError,
    Durable,
    NotOpen,
    PayloadTooLarge,
    Registry,
    ResultTimeout,
    every,
)
from durable.jobs import (
    ContinuousContext,
    Debounce,
    DebounceContext,
    DuplicateEventError,
    EventContext,
    ExecuteContext,
    HandlerMissing,
    JobExecutionError,
    JobNotFound,
    JobValidationError,
    ShownStatus,
    Task,
)
from durable.testing import VirtualStorage, app_under_test

from .crew import client_only, elsewhere
from .stage import appended

LONG = "x" * 513


async def flush(ctx: DebounceContext[int, int]) -> None: ...


async def handled(ctx: EventContext[Any, Any], event: Any) -> None: ...


async def executed(ctx: ExecuteContext[Any]) -> None: ...


def keep(state: int | None, event: int) -> int:
    return event


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"flush_after": 0}, "flush_after is 0"),
        ({"flush_after": -1}, "flush_after is -1"),
        ({"flush_after": "soon"}, "flush_after is 'soon'"),
        ({"flush_after": None}, "flush_after is None"),
        ({"flush_after": "10000d"}, "flush_after is '10000d'.*3650d"),
        ({"max_events": 0}, "max_events is 0.*from 1 to 10000"),
        ({"max_events": 10_001}, "max_events is 10001.*from 1 to 10000"),
        ({"max_events": True}, "max_events is True"),
        ({"max_events": 2.5}, "max_events is 2.5"),
        ({"window": "middle"}, "window is 'middle'"),
        ({"max_wait": "1m"}, 'max_wait is for window="last"'),
        ({"window": "last", "max_wait": "1s"}, "max_wait is 1 s, shorter than flush_after, 10 s"),
        ({"window": "last", "max_wait": "never"}, "max_wait is 'never'"),
        ({"dedupe_window": -1}, "dedupe_window is -1"),
        ({"dedupe_window": None}, "dedupe_window is None"),
        ({"state": int}, "state and reducer together"),
        ({"reducer": keep}, "state and reducer together"),
        ({"initial_state": 1}, "initial_state is for a reducer"),
        ({"state": int, "reducer": keep, "initial_state": "one"}, "initial_state"),
        ({"state": int, "reducer": lambda state: state}, "reducer is called with .state, event."),
        ({"state": int, "reducer": "keep"}, "reducer is made from a function"),
        ({"retry": 3}, "retry must be a Retry"),
        ({"timeout": 0}, "timeout is 0"),
        ({"queue": ""}, "queue ''"),
        ({"priority": 9}, "priority is 9"),
        ({"max_deliveries": 0}, "max_deliveries is 0"),
        ({"on_exhausted": "explode"}, "on_exhausted is 'explode'"),
        ({"on_exhausted": "continue"}, "is for a Continuous"),
        ({"state_version": 0}, "state_version is 0"),
        ({"migrate": 5}, "migrate is made from a function"),
        ({"migrate": lambda state: state}, "migrate is called with .state, version."),
        ({"flush_affter": 1}, "unknown option 'flush_affter'"),
        ({"name": ""}, "name ''"),
        ({"name": 5}, "name is a int"),
        ({"name": "a:b"}, "'a:b' contains a colon"),
        ({"name": "x" * 201}, "1 to 200"),
    ],
)
def test_a_debounce_is_refused_where_it_is_declared(app: Durable, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        app.debounce(**{"event": int, "flush_after": "10s", **options})(flush)
    assert "debounce:flush" not in list(app)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": ""}, "name ''"),
        ({"name": "a:b"}, "'a:b' contains a colon"),
        ({"dedupe_window": "long"}, "dedupe_window is 'long'"),
        ({"retry": 3}, "retry must be a Retry"),
        ({"on_exhausted": "continue"}, "is for a Continuous"),
        ({"migrate": {}}, "migrate is made from a function"),
        ({"schedule": "1h"}, "unknown option 'schedule'"),
    ],
)
def test_a_task_job_is_refused_where_it_is_declared(app: Durable, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        app.task_job(**{"name": "order", "state": int, "event": int, **options})
    assert list(app) == []


def test_a_name_is_taken_once_for_each_kind(app: Durable) -> None:
    app.task_job("order", state=int, event=int)
    app.debounce(event=int, flush_after=1, name="order")(flush)
    with pytest.raises(AlreadyRegistered, match="order"):
        app.task_job("order", state=str, event=str)
    with pytest.raises(AlreadyRegistered, match="order"):
        app.debounce(event=str, flush_after=1, name="order")(flush)  # type: ignore[arg-type]


async def generates(ctx: Any) -> AsyncIterator[int]:
    yield 1


def generates_too(ctx: Any, second: Any = None) -> Iterator[int]:
    yield 1


class Handler:
    def __init__(self, ctx: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (5, "not from a int"),
        (Handler, "not from the class Handler"),
        (generates, "cannot be a generator"),
        (generates_too, "cannot be a generator"),
        (lambda: None, r"is called with \(ctx"),
        (lambda ctx, second, third: None, r"is called with \(ctx"),
    ],
)
def test_what_cannot_be_called_as_a_handler_is_refused(app: Durable, function: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        app.debounce(event=int, flush_after=1, name="batcher")(function)
    job = app.task_job("order", state=int, event=int)
    for declare in (job.on_event, job.execute, job.on_idle, job.on_error):
        with pytest.raises(ConfigurationError, match=words):
            declare(function)


def test_a_handler_is_declared_once_and_stays_the_function_it_was(app: Durable) -> None:
    job = app.task_job("order", state=int, event=int)

    async def on_event(ctx: EventContext[int, int], event: int) -> None: ...

    assert job.on_event(on_event) is on_event
    with pytest.raises(ConfigurationError, match="'order' has an on_event handler already"):
        job.on_event(on_event)


async def test_what_no_handler_would_take_is_refused_before_anything_is_stored(
    app: Durable, storage: VirtualStorage
) -> None:
    job = app.task_job("order", state=int, event=int)
    sender = app.task_job("sender", state=int, event=int)

    @sender.on_event
    async def on_event(ctx: EventContext[int, int], event: int) -> None:
        ctx.send(job, "k", event)

    async with app_under_test(app, storage=storage):
        with pytest.raises(HandlerMissing, match="'order' has no on_event handler") as caught:
            await job.send("k", 1)
        assert (caught.value.name, caught.value.handler) == ("order", "on_event")
        with pytest.raises(HandlerMissing, match="'order' has no execute handler"):
            await job.trigger("k")
        with pytest.raises(JobExecutionError, match="'order' has no on_event handler"):
            await sender.send("s", 1, wait=True)
        assert [line.name for line in await app.jobs.list()] == ["sender"]


async def test_a_missing_handler_is_named_by_the_turn_that_needs_it(storage: VirtualStorage) -> None:
    def declared() -> tuple[Durable, Task[int, int]]:
        app = Durable("postgresql://nobody@nowhere.invalid/nothing")
        return app, app.task_job("order", state=int, event=int)

    knowing, sent = declared()

    @sent.on_event
    async def on_event(ctx: EventContext[int, int], event: int) -> None: ...

    async with client_only(storage, knowing):
        await sent.send("k", 1)
    app, job = declared()
    async with app_under_test(app, storage=elsewhere(storage)) as kit:
        await kit.drain()
        status = await job.status("k")
        assert status.last_error is not None
        assert "'order' has no on_event handler" in status.last_error.message
        assert status.dead_letters == 1


Call = Callable[[Debounce[Any, Any], Task[Any, Any]], Awaitable[Any]]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda d, t: d.add("", 1), "key has 0 characters; it must have 1 to 512"),
        (lambda d, t: t.send("", 1), "key has 0 characters; it must have 1 to 512"),
        (lambda d, t: d.add(LONG, 1), "key has 513 characters"),
        (lambda d, t: t.send(7, 1), "key is a int; give a str"),
        (lambda d, t: d.add("a\0b", 1), "key contains NUL"),
        (lambda d, t: t.send("a\ud800b", 1), "key contains NUL or half of a surrogate pair"),
        (lambda d, t: d.add("k", 1, event_id=""), "event_id has 0 characters"),
        (lambda d, t: t.send("k", 1, event_id=LONG), "event_id has 513 characters"),
        (lambda d, t: t.send("k", 1, event_id=5), "event_id is a int"),
        (lambda d, t: d.add("k", 1, on_duplicate="ignore"), "on_duplicate is 'ignore'; give return or raise"),
        (lambda d, t: t.send("k", 1, on_duplicate=True), "on_duplicate is True"),
        (lambda d, t: d.add("k", 1, wait=True, timeout="soon"), "timeout is 'soon'"),
        (lambda d, t: t.send("k", 1, wait=True, timeout=-1), "timeout is -1"),
        (lambda d, t: d.flush("k", timeout=-1), "timeout is -1"),
        (lambda d, t: t.trigger("k", wait=True, timeout="x"), "timeout is 'x'"),
        (lambda d, t: d.add("k", 1, wait=True, connection=object()), "wait=True and connection="),
        (lambda d, t: t.send("k", 1, wait=True, connection=object()), "wait=True and connection="),
        (lambda d, t: t.trigger("k", wait=True, connection=object()), "wait=True and connection="),
        (lambda d, t: t.terminate("k", reason=5), "reason is a int"),
        (lambda d, t: t.terminate("k", reason=LONG), "reason has 513 characters"),
        (lambda d, t: d.flush(""), "key has 0 characters"),
        (lambda d, t: d.clear(None), "key is a NoneType"),
        (lambda d, t: d.redrive(""), "key has 0 characters"),
        (lambda d, t: d.status(""), "key has 0 characters"),
        (lambda d, t: d.events(""), "key has 0 characters"),
        (lambda d, t: d.state(""), "key has 0 characters"),
        (lambda d, t: t.state(""), "key has 0 characters"),
    ],
)
async def test_a_call_is_refused_before_anything_is_stored(
    app: Durable, storage: VirtualStorage, call: Call, words: str
) -> None:
    batcher = app.debounce(event=int, flush_after="1h", name="batcher")(flush)
    job = app.task_job("order", state=int, event=int)
    job.on_event(handled)
    job.execute(executed)
    async with app_under_test(app, storage=storage):
        with pytest.raises(ConfigurationError, match=words):
            await call(batcher, job)
        assert await app.jobs.list() == []


@pytest.mark.parametrize("event", ["one", None, 1.5, [1], {"a": 1}, object(), datetime(2030, 1, 1)])  # noqa: DTZ001
async def test_an_event_that_does_not_fit_is_refused_wherever_it_is_sent_from(
    app: Durable, storage: VirtualStorage, event: Any
) -> None:
    batcher = app.debounce(event=int, flush_after="1h", name="batcher")(flush)
    job = app.task_job("order", state=int, event=int)
    refused: list[str] = []

    @job.execute
    def execute(ctx: ExecuteContext[int]) -> None:
        for other in (batcher, job):
            with pytest.raises(JobValidationError) as caught:
                ctx.send(other, "other", event)
            refused.append(caught.value.instance_id)

    @job.on_event
    def on_event(ctx: EventContext[int, int], event: int) -> None: ...

    async with app_under_test(app, storage=storage) as kit:
        with pytest.raises(JobValidationError, match=r"^job debounce:batcher:k: event"):
            await batcher.add("k", event)
        with pytest.raises(JobValidationError, match=r"^job task:order:k: event"):
            await job.send("k", event)
        assert await app.jobs.count() == 0
        await job.send("k", 1)
        await job.trigger("k", wait=True)
        await kit.drain()
        assert refused == ["debounce:batcher:other", "task:order:other"]
        assert await app.jobs.count() == 1


async def test_a_job_that_takes_no_events_is_refused_by_a_context(app: Durable, storage: VirtualStorage) -> None:
    refused: list[str] = []
    job = app.task_job("order", state=int, event=int)
    job.on_event(handled)

    @app.continuous(schedule=every("1h"), state=int, name="refresher")
    def refresher(ctx: ContinuousContext[int]) -> None: ...

    @job.execute
    def execute(ctx: ExecuteContext[int]) -> None:
        others: list[Any] = [refresher, "order", None]
        for other in others:
            with pytest.raises(ConfigurationError, match="takes no events; give a Debounce or a Task job") as caught:
                ctx.send(other, "k", 5)
            refused.append(str(caught.value))

    async with app_under_test(app, storage=storage):
        await job.send("k", 1)
        await job.trigger("k", wait=True)
        assert [words.split(",")[0] for words in refused] == [
            "job is <Continuous 'refresher'>", "job is 'order'", "job is None",
        ]  # fmt: skip


async def test_an_event_that_is_too_large_is_refused_with_the_limit(app: Durable, storage: VirtualStorage) -> None:
    job = app.task_job("order", state=str, event=str)
    job.on_event(handled)
    async with app_under_test(app, storage=storage):
        with pytest.raises((JobValidationError, PayloadTooLarge), match=r"event.*limit"):
            await job.send("k", "x" * 5_000_000)
        assert await app.jobs.count() == 0


async def test_a_time_limit_ends_the_wait_and_not_what_it_waits_for(app: Durable, storage: VirtualStorage) -> None:
    batcher = app.debounce(event=int, flush_after="1h", name="batcher")(flush)
    async with app_under_test(app, storage=storage) as kit:
        with pytest.raises(ResultTimeout):
            await batcher.add("k", 1, wait=True, timeout=0)
        assert (await batcher.status("k")).event_count == 1
        await kit.clock.advance("1h")
        assert (await batcher.status("k")).event_count == 0


async def test_a_handler_that_waits_for_its_own_turn_is_refused(app: Durable, storage: VirtualStorage) -> None:
    refused: list[str] = []
    job = app.task_job("order", state=int, event=int)

    @job.on_event
    async def on_event(ctx: EventContext[int, int], event: int) -> None:
        if event == 1:
            with pytest.raises(ConfigurationError, match="waits for itself to end") as caught:
                await job.send(ctx.key, 2, wait=True)
            refused.append(str(caught.value))
            await job.send("other", 3, wait=True)

    async with app_under_test(app, storage=storage):
        await job.send("k", 1, wait=True)
        assert len(refused) == 1
        assert (await job.status("other")).event_count == 1


@pytest.mark.parametrize("call", [lambda d, t: d.add("k", 1), lambda d, t: t.send("k", 1), lambda d, t: d.status("k")])
async def test_before_the_app_is_open_a_call_says_so(app: Durable, call: Call) -> None:
    batcher = app.debounce(event=int, flush_after="1h", name="batcher")(flush)
    with pytest.raises(NotOpen):
        await call(batcher, app.task_job("order", state=int, event=int))


async def test_a_registry_that_no_app_includes_says_so() -> None:
    registry = Registry()
    batcher = registry.debounce(event=int, flush_after="1h")(flush)
    with pytest.raises(NotOpen, match="include"):
        await batcher.add("k", 1)


async def test_jobs_of_an_included_registry_are_jobs_of_the_app(app: Durable, storage: VirtualStorage) -> None:
    before, flushed = Registry(), list[int]()

    @before.debounce(event=int, state=list[int], reducer=appended, flush_after="10s")
    def batcher(ctx: DebounceContext[list[int], int]) -> None:
        flushed.extend(ctx.state)
        ctx.send(job, ctx.key, sum(ctx.state))

    app.include(before)
    job = before.task_job("total", state=int, event=int)

    @job.on_event
    def on_event(ctx: EventContext[int, int], event: int) -> None:
        ctx.set_state((ctx.state or 0) + event)

    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        await batcher.add("k", 2)
        await kit.clock.advance("10s")
        assert flushed == [1, 2]
        assert (await job.state("k")).state == 3
        assert app.jobs.get("task", "total") is job
        with pytest.raises(JobNotFound, match="no task job named 'totals'"):
            app.jobs.get("task", "totals")


async def test_a_stored_state_that_no_longer_fits_is_left_until_it_is_migrated(storage: VirtualStorage) -> None:
    def declared(state: Any, **options: Any) -> tuple[Durable, Task[Any, int]]:
        app = Durable("postgresql://nobody@nowhere.invalid/nothing")
        job = app.task_job("order", state=state, event=int, **options)

        @job.on_event
        async def on_event(ctx: EventContext[Any, int], event: int) -> None:
            ctx.set_state([*(ctx.state or []), event] if state == list[int] else (ctx.state or 0) + event)

        return app, job

    app, job = declared(int)
    async with app_under_test(app, storage=storage):
        await job.send("k", 1, wait=True)
    app, job = declared(list[int])
    async with app_under_test(app, storage=storage):
        with pytest.raises(JobExecutionError, match="stored state of version 1 does not fit version 1"):
            await job.send("k", 2, wait=True)
        with pytest.raises(JobValidationError, match="stored state"):
            await job.state("k")
    app, job = declared(list[int], state_version=2, migrate=lambda state, version: [state * version])
    async with app_under_test(app, storage=storage):
        assert (await job.state("k")).state == [1]
        assert (await job.redrive("k")).redriven
        await job.send("k", 3, wait=True)
        assert (await job.state("k")).state == [1, 2, 3]


async def test_a_duplicate_is_raised_or_returned_as_asked(app: Durable, storage: VirtualStorage) -> None:
    job = app.task_job("order", state=int, event=int, dedupe_window=timedelta(hours=1))
    handled: list[int] = []

    @job.on_event
    def on_event(ctx: EventContext[int, int], event: int) -> None:
        handled.append(event)

    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", 1, event_id="a")
        assert (await job.send("k", 2, event_id="a")).duplicate
        assert (await job.send("k", 2, event_id="a", wait=True)).duplicate
        with pytest.raises(DuplicateEventError):
            await job.send("k", 3, event_id="a", on_duplicate="raise")
        await kit.clock.advance("2h")
        assert (await job.send("k", 4, event_id="a", wait=True)).duplicate is False
        assert handled == [1, 4]


async def test_on_exhausted_purge_throws_a_failed_event_away(app: Durable, storage: VirtualStorage) -> None:
    job = app.task_job("order", state=int, event=int, on_exhausted="purge")

    @job.on_event
    def on_event(ctx: EventContext[int, int], event: int) -> None:
        raise ValueError(event)

    async with app_under_test(app, storage=storage):
        with pytest.raises(JobExecutionError, match="ValueError"):
            await job.send("k", 1, wait=True)
        assert (await job.redrive("k")).redriven is False
        assert (await job.status("k")).status is ShownStatus.IDLE


async def test_a_partial_and_a_bound_method_are_handlers_too(app: Durable, storage: VirtualStorage) -> None:
    seen: list[tuple[str, int]] = []

    class Shop:
        async def on_event(self, ctx: EventContext[int, int], event: int) -> None:
            seen.append(("method", event))

    async def execute(name: str, ctx: ExecuteContext[int]) -> None:
        seen.append((name, ctx.execute_count))

    job = app.task_job("order", state=int, event=int)
    job.on_event(Shop().on_event)
    job.execute(functools.partial(execute, "partial"))
    async with app_under_test(app, storage=storage):
        await job.send("k", 1, wait=True)
        await job.trigger("k", wait=True)
    assert seen == [("method", 1), ("partial", 1)]
