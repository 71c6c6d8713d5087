"""The events of jobs: names, order and facts, in the commit that makes them true."""

from __future__ import annotations

from pydantic import BaseModel

from durable import Durable, LifecycleEvent, NonRetryable, Retry, TaskContext
from durable.jobs import ContinuousContext, DebounceContext, EventContext, ExecuteContext, every
from durable.testing import VirtualStorage, app_under_test

from .crew import client_only
from .stage import failing


class State(BaseModel):
    count: int = 0


class Added(BaseModel):
    amount: int


class Told:
    def __init__(self, app: Durable) -> None:
        self.events: list[LifecycleEvent] = []
        app.events.subscribe(self._hear, name="told")

    def _hear(self, event: LifecycleEvent) -> None:
        self.events.append(event)

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]


async def test_a_continuous_tells_of_its_start_its_runs_its_failures_and_its_end(
    app: Durable, storage: VirtualStorage
) -> None:

    told = Told(app)

    @app.continuous(state=State, schedule=every("1h"), retry=Retry(max_attempts=2, delay=1.0), on_exhausted="continue")
    async def refresher(ctx: ContinuousContext[State]) -> None:
        if ctx.run_count == 2:
            raise LookupError("gone")

    async with app_under_test(app, storage=storage) as kit:
        await refresher.start("a", State())
        await kit.drain()
        await kit.clock.advance("2h")
        await refresher.terminate("a", reason="enough")
        await kit.drain()
    assert told.names[:5] == ["job.started", "job.executed", "job.failed", "job.failed", "job.retry_exhausted"]
    assert told.names[-1] == "job.terminated"
    executed, retried, failed, exhausted = told.events[1:5]
    assert (executed.subject, executed.kind, executed.task, executed.key) == (
        "continuous:refresher:a", "continuous", "refresher", "a",
    )  # fmt: skip
    assert (executed.data["run_count"], executed.data["attempt"]) == (1, 1)
    assert [event.data["will_retry"] for event in (retried, failed)] == [True, False]
    assert [event.error and event.error.type for event in (retried, failed, exhausted)] == ["LookupError"] * 3
    assert (exhausted.data["attempts"], exhausted.data["reason"]) == (2, "max_attempts")
    assert told.events[-1].data["reason"] == "enough"
    assert all(event.payload is None for event in told.events)


async def test_a_debounce_tells_when_a_batch_opens_and_when_it_is_flushed(
    app: Durable, storage: VirtualStorage
) -> None:

    told = Told(app)

    @app.debounce(event=Added, flush_after="10s", max_events=3)
    async def batcher(ctx: DebounceContext[Added, Added]) -> None:
        """Accepts what comes."""

    async with app_under_test(app, storage=storage) as kit:
        for amount in range(4):
            await batcher.add("k", Added(amount=amount))
        await kit.drain()
        await kit.clock.advance("10s")
    assert told.names.count("debounce.flushed") == 2
    flushed = [event.data for event in told.events if event.name == "debounce.flushed"]
    assert [(data["event_count"], data["reason"]) for data in flushed] == [(3, "max_events"), (1, "flush_after")]
    assert told.names[0] == "debounce.started"


async def test_a_debounce_tells_of_each_batch_that_opens_while_others_wait(
    app: Durable, storage: VirtualStorage
) -> None:
    told = Told(app)

    @app.debounce(event=int, flush_after="10s", max_events=3)
    async def batcher(ctx: DebounceContext[int, int]) -> None:
        """Accepts what comes."""

    async with client_only(storage, app):
        added = [await batcher.add("k", event) for event in range(7)]
        assert [done.created for done in added] == [True, False, False, True, False, False, True]
    async with app_under_test(app, storage=storage) as kit:
        await kit.clock.advance("10s")
    assert told.names.count("debounce.started") == 3
    flushed = [event.data for event in told.events if event.name == "debounce.flushed"]
    assert [data["event_count"] for data in flushed] == [3, 3, 1]


async def test_a_debounce_tells_of_a_redriven_batch_under_the_id_that_it_had(
    app: Durable, storage: VirtualStorage
) -> None:
    told = Told(app)
    batcher, flushes = failing(app, 1, NonRetryable("no"))
    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        await kit.clock.advance("10s")
        await batcher.redrive("k")
        await kit.drain()
    (flushed,) = [event.data for event in told.events if event.name == "debounce.flushed"]
    assert flushed["batch_id"] == flushes[0].batch_id == flushes[1].batch_id != flushed["execution_id"]


async def test_a_task_tells_what_it_plans_and_what_it_ends(app: Durable, storage: VirtualStorage) -> None:

    told = Told(app)
    order = app.task_job("order", state=State, event=Added)

    @order.on_event
    async def on_event(ctx: EventContext[State, Added], event: Added) -> None:
        ctx.set_state(State(count=event.amount))
        ctx.schedule("1m")

    @order.execute
    async def execute(ctx: ExecuteContext[State]) -> None:
        ctx.terminate("done")

    async with app_under_test(app, storage=storage) as kit:
        await order.send("k", Added(amount=1))
        await kit.drain()
        await kit.clock.advance("1m")
    assert told.names == ["job.started", "job.executed", "task.scheduled", "job.terminated"]
    assert told.events[2].data["trigger"] == "event"
    assert (told.events[3].data["reason"], told.events[3].key) == ("done", "k")


async def test_a_timer_tells_of_its_failures_and_of_its_success(app: Durable, storage: VirtualStorage) -> None:
    told = Told(app)

    @app.task
    async def remind(ctx: TaskContext) -> None:
        if ctx.attempt == 1:
            raise LookupError("gone")

    async with app_under_test(app, storage=storage) as kit:
        timer = await app.timers.after("1m", remind.child(), owner="a", retry_interval="5s")
        await kit.clock.advance("2m")
    assert told.names == ["job.failed", "job.executed"]
    failed, executed = told.events
    assert (failed.subject, failed.data["timer_id"], failed.data["task_name"]) == ("timer:timers:a", timer.id, "remind")
    assert (failed.data["will_retry"], failed.data["retry_in_s"], failed.data["attempt"]) == (True, 5.0, 1)
    assert failed.error is not None
    assert failed.error.type == "LookupError"
    assert (executed.data["timer_id"], executed.data["attempt"], executed.data["run_count"]) == (timer.id, 2, 1)
