"""The numbered cases of workflows that are not about waiting alone; see tests/cases.md."""

from __future__ import annotations

from datetime import timedelta

from durable import Durable, Retry, Status, StepFailed, Workflow, WorkflowContext, constant
from durable.testing import VirtualStorage, app_under_test
from tests.jobs.crew import Door, client_only, crew, drained, reached

_PAUSE = "30s"
"""After which a workflow that does not fit its history is tried again."""


async def test_wf_03_a_step_that_is_done_is_not_run_again_because_its_neighbour_is(
    app: Durable, storage: VirtualStorage
) -> None:
    ran: list[str] = []

    @app.task(retry=Retry(3, constant("10s"), jitter=0))
    async def shaky() -> str:
        ran.append("shaky")
        if ran.count("shaky") < 3:
            raise ConnectionError("not yet")
        return "at last"

    async def steady() -> str:
        ran.append("steady")
        return "done"

    @app.workflow
    async def flow(ctx: WorkflowContext) -> tuple[str, str]:
        return await ctx.gather(ctx.step(shaky), ctx.step(steady))

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("20s")
        assert await handle.result(timeout=0) == ("at last", "done")
    assert (ran.count("shaky"), ran.count("steady")) == (3, 1)


async def test_wf_04_steps_of_one_name_are_numbered_and_keep_their_own_results(
    app: Durable, storage: VirtualStorage
) -> None:
    ran: list[int] = []

    async def double(n: int) -> int:
        ran.append(n)
        return 2 * n

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[int]:
        first = [await ctx.step(double, n) for n in (1, 2, 3)]
        await ctx.sleep("1h")
        both = await ctx.gather(*(ctx.step(double, n) for n in (4, 5)))
        return [*first, *both]

    async with crew(storage, app) as (kit,):
        handle = await flow.enqueue()
        await kit.drain()
    async with crew(storage, app) as (kit,):
        await kit.clock.advance("1h")
        assert await flow.handle(handle.execution_id).result(timeout=0) == [2, 4, 6, 8, 10]
    assert sorted(ran) == [1, 2, 3, 4, 5]


async def test_wf_05_a_timeout_is_that_of_each_attempt_and_backoff_does_not_count(
    app: Durable, storage: VirtualStorage
) -> None:
    attempts: list[int] = []
    door = Door()

    @app.task(timeout="20ms", retry=Retry(3, constant("1h"), jitter=0))
    async def slow() -> str:
        attempts.append(len(attempts))
        if len(attempts) < 3:
            await door.hold()
        return "in time"

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        return await ctx.step(slow)

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("2h")
        assert await handle.result(timeout=0) == "in time"
    assert attempts == [0, 1, 2]


async def test_wf_05_the_time_since_the_first_attempt_ends_the_retries_of_a_step(
    app: Durable, storage: VirtualStorage
) -> None:
    @app.task(retry=Retry(10, constant("10m"), jitter=0, max_duration="25m"))
    async def shaky() -> None:
        raise ConnectionError("never")

    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        try:
            await ctx.step(shaky)
        except StepFailed:
            return round((ctx.now() - began) / timedelta(minutes=1))
        return 0

    async with crew(storage, app) as (kit,):
        began = storage.now()
        handle = await flow.enqueue()
        await kit.clock.advance("15m")
    async with crew(storage, app) as (kit,):
        await kit.clock.advance("1h")
        # At 0, 10 and 20 minutes; the next would be beyond the limit.
        assert await flow.handle(handle.execution_id).result(timeout=0) == 20


async def test_wf_06_one_key_is_one_run_and_its_result_can_be_had_again(app: Durable, storage: VirtualStorage) -> None:
    ran: list[str] = []

    async def note(what: str) -> str:
        ran.append(what)
        return what

    @app.workflow
    async def flow(ctx: WorkflowContext, what: str) -> str:
        return await ctx.step(note, what)

    async with crew(storage, app) as (kit,):
        one = await flow.enqueue("a", idempotency_key="order-1")
        await kit.drain()
        two = await flow.enqueue("a", idempotency_key="order-1")
        await kit.drain()
        assert (one.execution_id, await one.result(timeout=0)) == (two.execution_id, await two.result(timeout=0))
    async with client_only(storage, app):
        assert await flow.handle(one.execution_id).result(timeout=0) == "a"
    assert ran == ["a"]


async def test_wf_07_a_run_whose_executor_died_after_a_second_is_recovered(
    app: Durable, storage: VirtualStorage
) -> None:
    async def add(a: int, b: int) -> int:
        return a + b

    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        return await ctx.step(add, 1, 2)

    async with client_only(storage, app):
        handle = await flow.enqueue()
        (claimed,) = await app.storage.claim(
            executor_id="dead", queues=["default"], task_names=[flow.name], limit=1, lease=15
        )
        assert claimed.id == handle.execution_id
    storage.move_to(storage.now() + timedelta(seconds=1))
    async with crew(storage, app) as (kit,):
        await kit.clock.advance("13s")
        assert await flow.handle(handle.execution_id).status() is Status.RUNNING
        await kit.clock.advance("1s")
        assert await flow.handle(handle.execution_id).result(timeout=0) == 3


async def test_wf_08_code_that_no_longer_fits_is_detected_and_the_workflow_is_kept(storage: VirtualStorage) -> None:
    ran: list[str] = []

    async def note(what: str) -> None:
        ran.append(what)

    def app_of(is_changed: bool) -> tuple[Durable, Workflow[[], str]]:
        app = Durable("postgresql://nobody@nowhere.invalid/nothing")

        @app.workflow
        async def flow(ctx: WorkflowContext) -> str:
            context = ctx.with_options(name="first")
            if is_changed:
                await context.sleep("1s")
            else:
                await context.step(note, "first")
            ctx.on_rollback(note, "undone")
            await ctx.sleep("1h")
            return "done"

        return app, flow

    (old, old_flow), (new, new_flow) = app_of(False), app_of(True)
    async with crew(storage, old) as (kit,):
        execution = await old_flow.enqueue()
        await kit.drain()
    async with crew(storage, new) as (kit,):
        await kit.clock.advance("1h")
        record = await new_flow.handle(execution.execution_id).execution()
        assert (record.status, record.reason) == (Status.READY, "step_mismatch")
        assert record.error is not None
        assert "step 'first#1'" in record.error
        assert "sleep 'first#1'" in record.error
    async with crew(storage, old) as (kit,):
        await kit.clock.advance(_PAUSE)
        assert await old_flow.handle(execution.execution_id).result(timeout=0) == "done"
    assert ran == ["first"]


async def test_wf_08_the_same_code_may_not_go_another_way(app: Durable, storage: VirtualStorage) -> None:
    ways = ["left", "right", "left"]

    async def go(where: str) -> str:
        return where

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        way = ways.pop(0)
        went = await ctx.with_options(name=way).step(go, way)
        await ctx.sleep("1h")
        return went

    async with crew(storage, app) as (kit,):
        handle = await flow.enqueue()
        await kit.drain()
    async with crew(storage, app) as (kit,):
        await kit.clock.advance("1h")
        record = await flow.handle(handle.execution_id).execution()
        assert (record.status, record.reason) == (Status.READY, "step_mismatch")
        assert record.error is not None
        assert "step 'left#1'" in record.error
        assert "step 'right#1'" in record.error
        await kit.clock.advance(_PAUSE)
        assert await flow.handle(handle.execution_id).result(timeout=0) == "left"


async def test_wf_09_a_cancel_ends_what_waits_at_once_and_what_runs_at_its_next_await(
    app: Durable, storage: VirtualStorage
) -> None:
    door, undone = Door(), list[str]()

    async def hold() -> None:
        await door.hold()

    async def undo(what: str) -> None:
        undone.append(what)

    @app.workflow
    async def flow(ctx: WorkflowContext, what: str) -> None:
        ctx.on_rollback(undo, what)
        await (ctx.step(hold) if what == "runs" else ctx.sleep("1h"))

    async with crew(storage, app) as (kit,):
        queued = await flow.enqueue("queued", delay="1h")
        paused, runs = await flow.enqueue("paused"), await flow.enqueue("runs")
        kit.executor.wake()
        await reached(door)
        outcomes = [(await handle.cancel()).outcome for handle in (queued, paused, runs)]
        assert outcomes == ["cancelled", "requested", "requested"]
        await kit.drain()
        assert [await handle.status() for handle in (queued, paused, runs)] == [Status.CANCELLED] * 3
        # What never began has nothing to undo.
        assert sorted(undone) == ["paused", "runs"]
        assert [(await handle.cancel()).outcome for handle in (queued, paused, runs)] == ["already_finished"] * 3
        assert sorted(undone) == ["paused", "runs"]


async def test_wf_09_two_requests_are_one(app: Durable, storage: VirtualStorage) -> None:
    undone: list[str] = []

    async def undo() -> None:
        undone.append("undone")

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        ctx.on_rollback(undo)
        await ctx.sleep("1h")

    async with crew(storage, app) as (kit,):
        handle = await flow.enqueue()
        await kit.drain()
    async with client_only(storage, app):
        first, second = await flow.handle(handle.execution_id).cancel(), await flow.handle(handle.execution_id).cancel()
        assert (first.outcome, second.outcome) == ("requested", "already_requested")
    async with crew(storage, app) as (kit,):
        await kit.drain()
        assert await flow.handle(handle.execution_id).status() is Status.CANCELLED
    assert undone == ["undone"]


async def test_wf_03_executors_share_workflows_and_no_step_runs_twice(storage: VirtualStorage) -> None:
    ran: list[int] = []

    async def note(n: int) -> int:
        ran.append(n)
        return n

    def app_of() -> tuple[Durable, Workflow[[int], int]]:
        app = Durable("postgresql://nobody@nowhere.invalid/nothing")

        @app.workflow
        async def flow(ctx: WorkflowContext, n: int) -> int:
            await ctx.gather(ctx.step(note, n), ctx.step(note, n + 1))
            await ctx.sleep("1m")
            return await ctx.step(note, n + 2)

        return app, flow

    apps = [app_of() for _ in range(3)]
    async with crew(storage, *(app for app, _ in apps)) as kits:
        handles = [await apps[0][1].enqueue(3 * n) for n in range(20)]
        await drained(kits)
        await kits[0].clock.advance("1m")
        await drained(kits)
        assert [await handle.result(timeout=0) for handle in handles] == [3 * n + 2 for n in range(20)]
    assert sorted(ran) == list(range(60))
