"""crash_everywhere: what it runs through, and that it finds bodies that are not safe from a crash."""

from __future__ import annotations

import asyncio
import random

import pytest

from durable import Durable, NonRetryable, Retry, Status, TaskContext, UpdateFailed, WorkflowContext, exponential
from durable.testing import CrashScene, crash_everywhere, virtual_storage

_seen: list[str] = []


async def add(a: int, b: int) -> int:
    return a + b


async def undo(what: str) -> None:
    """Would undo it."""


async def refuse() -> None:
    raise NonRetryable("no")


async def test_a_workflow_of_everything_ends_the_same_wherever_it_is_killed(app: Durable) -> None:
    @app.task
    async def square(n: int) -> int:
        return n * n

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[object]:
        ctx.publish("state", "begun")
        numbers = await ctx.gather(ctx.step(add, 1, 2), ctx.step(add, 3, 4), ctx.transaction(count_up))
        ctx.publish("state", "waits")
        name = await ctx.wait_signal("name", str, timeout="1d")
        await ctx.gather(ctx.sleep("1h"), ctx.sleep("2h"))
        squares = await ctx.gather(ctx.child(square, 3), ctx.child(square, 4))
        ctx.emit(name)
        return [numbers, name, squares, ctx.random.random(), str(ctx.uuid())]

    async def script(scene: CrashScene[list[object]]) -> None:
        await scene.drain()
        await scene.handle.signal("name", "Ada")
        await scene.advance("1h")

    report = await crash_everywhere(flow, script=script)
    assert (report.status, report.steps, report.undone) == (
        Status.COMPLETED, ("add#1 (done)", "add#2 (done)", "count_up#1 (done)"), ()
    )  # fmt: skip
    assert report.result is not None
    assert report.result[:3] == [[3, 7, 1], "Ada", [9, 16]]
    assert report.crash_count >= 5


async def count_up(connection: object) -> int:
    return 1


async def test_what_was_done_is_undone_wherever_it_is_killed(app: Durable) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        for what in ("flight", "hotel"):
            await ctx.step(add, 1, 1)
            ctx.on_rollback(undo, what)
        await ctx.step(refuse)

    report = await crash_everywhere(flow)
    assert report.status is Status.FAILED
    assert report.undone == ("rollback:undo#1 (done)", "rollback:undo#2 (done)")


async def test_it_finds_a_body_that_remembers_outside_of_itself(app: Durable) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        _seen.append("was here")
        await ctx.step(add, 1, 1)
        return len(_seen)

    _seen.clear()
    with pytest.raises(AssertionError, match=r"'flow', killed after durable write 1: result \d, without a crash 1"):
        await crash_everywhere(flow)


async def test_it_finds_a_body_that_throws_dice(app: Durable) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> float:
        await ctx.step(add, 1, 1)
        return random.random()  # durable: ok

    with pytest.raises(AssertionError, match=r"result 0\.\d+, without a crash 0\.\d+"):
        await crash_everywhere(flow)


async def test_it_finds_a_body_that_goes_another_way(app: Durable) -> None:
    ways = iter(range(1000))

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.with_options(name=f"step-{next(ways)}").step(add, 1, 1)
        await ctx.step(add, 1, 1)

    with pytest.raises(AssertionError, match="it went another way than its history"):
        await crash_everywhere(flow)


async def test_it_says_that_a_workflow_waits_for_a_signal_that_the_script_does_not_send(app: Durable) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("go", str)

    with pytest.raises(AssertionError, match="does a signal miss"):
        await crash_everywhere(flow)


async def test_on_postgres_the_commits_of_transactions_are_moments_of_death_as_well(
    app: Durable, durable_postgres_dsn: str
) -> None:
    async def write(connection: object, n: int) -> int:
        return n

    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        one, two = await ctx.gather(ctx.transaction(write, 1), ctx.transaction(write, 2))
        return one + two

    report = await crash_everywhere(flow, storage=lambda: virtual_storage(durable_postgres_dsn))
    # Each of the two: its checkpoint, which is not committed yet, and the commit; and the end.
    assert (report.result, report.crash_count) == (3, 5)


async def test_an_update_is_cut_half_way_and_answered_all_the_same(app: Durable) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        ctx.state["total"] = 0
        await ctx.wait_signal("go", bool)
        return int(ctx.state["total"])

    @flow.update
    async def deposit(ctx: WorkflowContext, amount: int) -> int:
        if amount < 0:
            raise NonRetryable("too little")
        ctx.state["total"] += await ctx.step(add, amount, 0)
        ctx.state["total"] += await ctx.step(add, amount, 0)
        return int(ctx.state["total"])

    async def script(scene: CrashScene[int]) -> None:
        await scene.update(deposit, 1)
        with pytest.raises(UpdateFailed, match="too little"):
            await scene.update(deposit, -1)
        await scene.update(deposit, 2)
        await scene.handle.signal("go", True)

    report = await crash_everywhere(flow, script=script)
    assert (report.result, report.answers[0], report.answers[2]) == (6, 2, 6)
    assert "too little" in report.answers[1]
    assert report.steps == ("add#1 (done)", "add#2 (done)", "add#3 (done)", "add#4 (done)")
    assert report.crash_count >= 5


async def test_it_finds_an_update_that_remembers_outside_of_its_workflow(app: Durable) -> None:
    asked: list[int] = []

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("go", bool)

    @flow.update
    async def count(ctx: WorkflowContext) -> int:
        asked.append(1)
        await ctx.step(add, 1, 1)
        return len(asked)

    async def script(scene: CrashScene[None]) -> None:
        asked.clear()
        await scene.update(count)
        await scene.handle.signal("go", True)

    with pytest.raises(AssertionError, match=r"answers \(2,\), without a crash \(1,\)"):
        await crash_everywhere(flow, script=script)


async def test_planned_deaths_are_not_logged_and_other_failures_are(
    app: Durable, caplog: pytest.LogCaptureFixture
) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.gather(ctx.step(add, 1, 1), ctx.sleep("1h"))
        await ctx.step(refuse)

    await crash_everywhere(flow)
    said = [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    assert said
    assert all("failed with StepFailed" in each for each in said)


async def test_what_it_publishes_and_streams_is_the_same_wherever_it_is_killed(app: Durable) -> None:
    async def speak(context: TaskContext) -> None:
        for piece in ("well", "well", "then"):
            context.emit(piece)

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        ctx.emit("begin")
        approval = await ctx.approval("go", expires="1h")
        ctx.publish("link", {"open": [f"https://shop.example/{approval.token}"]})
        await ctx.step(speak)
        await approval.decision()
        ctx.publish("state", "over")
        ctx.emit("end")

    report = await crash_everywhere(flow)
    # A token is another one in each run.
    assert report.values == {"link": {"open": ["https://shop.example/…"]}, "state": "over"}
    assert report.chunks == ("begin", "well", "well", "then", "end")


async def test_it_finds_a_body_that_publishes_what_it_remembers(app: Durable) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        _seen.append("was here")
        ctx.publish("count", 0)
        await ctx.step(add, 1, 1)
        ctx.publish("count", len(_seen))

    _seen.clear()
    with pytest.raises(AssertionError, match=r"published values \{'count': \d+\}, without a crash \{'count': 1\}"):
        await crash_everywhere(flow)


async def test_it_finds_a_body_that_streams_what_it_remembers(app: Durable) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        _seen.append("was here")
        await ctx.step(add, 1, 1)
        ctx.emit(len(_seen))

    _seen.clear()
    with pytest.raises(AssertionError, match=r"streamed \(\d+,\), without a crash \(1,\)"):
        await crash_everywhere(flow)


async def test_it_finds_a_body_that_streams_a_piece_for_each_time_it_runs(app: Durable) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        _seen.append("was here")
        await ctx.step(add, 1, 1)
        for _ in _seen:
            ctx.emit("again")

    _seen.clear()
    with pytest.raises(AssertionError, match=r"streamed \('again', 'again'.*\), without a crash \('again',\)"):
        await crash_everywhere(flow)


async def test_steps_may_stream_a_piece_again_but_leave_out_and_invent_none(app: Durable) -> None:
    pieces = [["a"], ["b"]]

    async def speak(context: TaskContext) -> None:
        for piece in pieces[min(len(_seen), 1)]:
            context.emit(piece)
        _seen.append("was here")

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.step(speak)

    _seen.clear()
    with pytest.raises(
        AssertionError, match="streamed 'b', which it does not without a crash; did not stream 'a' as often as without"
    ):
        await crash_everywhere(flow)


async def test_time_does_not_go_on_before_another_executor_does(app: Durable) -> None:
    @app.task
    async def square(n: int) -> int:
        return n * n

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        await ctx.sleep("8s")
        await asyncio.gather(ctx.step(add, 1, 1), ctx.child(square, 6))
        return ctx.now().strftime("%S")

    async def script(scene: CrashScene[str]) -> None:
        await scene.advance("20s")

    for _ in range(3):  # how its writes fall together is the machine's
        assert (await crash_everywhere(flow, script=script)).result == "08"


async def test_retries_come_at_the_same_moments_wherever_it_is_killed(app: Durable) -> None:
    @app.task(retry=Retry(3, exponential("10s"), jitter=1))
    async def flaky(ctx: TaskContext) -> None:
        if ctx.attempt < 3:
            raise ConnectionError("not yet")

    @app.workflow
    async def flow(ctx: WorkflowContext) -> float:
        begun = ctx.now()
        await ctx.step(flaky)
        await ctx.child(flaky)
        return (ctx.now() - begun).total_seconds()

    assert (await crash_everywhere(flow)).result == 60
