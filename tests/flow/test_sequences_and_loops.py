"""Sequences hand results on; loops take turns on one record."""

import asyncio

import pytest

from durable import (
    Again,
    ConfigurationError,
    Done,
    Durable,
    ExecutionFailed,
    LoopResult,
    Retry,
    Spawn,
    Status,
    TaskContext,
    constant,
)

from .place import PATIENCE, Place, running, until


async def test_each_step_gets_the_result_of_the_one_before(app: Durable) -> None:
    @app.task
    async def parse(text: str, base: int = 10) -> int:
        return int(text, base)

    @app.task
    def halve(n: int) -> float:
        return n / 2

    @app.task
    async def show(n: float) -> str:
        return f"<{n}>"

    steps = app.sequence("steps", parse, halve, show)
    async with running(app):
        assert await (await steps.enqueue("7")).result(PATIENCE) == "<3.5>"
        handle = await steps.enqueue("11", base=2)
        assert await handle.result(PATIENCE) == "<1.5>"
        assert [child.output for child in await handle.children()] == [3, 1.5, "<1.5>"]
        assert (await handle.execution()).iteration == 3


async def test_a_sequence_of_one_step_gives_its_result(app: Durable) -> None:
    @app.task
    async def only(n: int) -> int:
        return n + 1

    alone = app.sequence("alone", only)
    async with running(app):
        assert await (await alone.enqueue(1)).result(PATIENCE) == 2


@pytest.mark.parametrize("failing", [0, 1, 2])
async def test_a_failing_step_ends_the_sequence_and_names_itself(app: Durable, failing: int) -> None:
    ran: list[int] = []

    async def step(index: int, n: int) -> int:
        ran.append(index)
        if index == failing:
            raise ValueError("broken")
        return n

    @app.task
    async def one(n: int) -> int:
        return await step(0, n)

    @app.task
    async def two(n: int) -> int:
        return await step(1, n)

    @app.task
    async def three(n: int) -> int:
        return await step(2, n)

    steps = app.sequence("steps", one, two, three)
    async with running(app):
        handle = await steps.enqueue(1)
        with pytest.raises(ExecutionFailed, match=rf"step {failing} \({['one', 'two', 'three'][failing]}\): broken"):
            await handle.result(PATIENCE)
        assert (await handle.execution()).status == Status.FINALIZE_FAILED
    assert ran == list(range(failing + 1))


async def test_a_step_that_fails_once_is_repeated_by_its_own_policy(app: Durable) -> None:
    @app.task
    async def one(n: int) -> int:
        return n + 1

    @app.task(retry=Retry(2, constant(0)))
    async def flaky(ctx: TaskContext, n: int) -> int:
        if ctx.attempt == 1:
            raise ValueError
        return n * 10

    steps = app.sequence("steps", one, flaky)
    async with running(app):
        assert await (await steps.enqueue(1)).result(PATIENCE) == 20


async def test_parents_loops_and_sleepers_can_be_steps(app: Durable) -> None:
    @app.task
    async def add(n: int) -> int:
        return n + 1

    async def sum_up(output: int, ends: list[object]) -> str:
        return f"approval-{len(ends)}"

    @app.parent(finalize=sum_up)
    async def fan_out(n: int) -> Spawn[int]:
        return Spawn(n, [add.child(k) for k in range(n)])

    approval = app.sleeping("approval", str)
    steps = app.sequence("steps", add, fan_out, approval)
    async with running(app):
        handle = await steps.enqueue(2)
        await approval.wakeup("approval-3", "granted")
        assert await handle.result(PATIENCE) == "granted"


async def test_a_result_that_the_next_step_does_not_take_ends_the_sequence(app: Durable) -> None:
    @app.task
    async def gives_text() -> str:
        return "x"

    @app.task
    async def takes_number(n: int) -> int:
        return n

    steps = app.sequence("steps", gives_text, takes_number)
    async with running(app):
        with pytest.raises(ExecutionFailed, match="InvalidInput"):
            await (await steps.enqueue()).result(PATIENCE)


async def test_a_loop_takes_turns_until_it_is_done(app: Durable, place: Place) -> None:
    turns: list[tuple[int, int]] = []

    @app.loop(max_iterations=10)
    async def count(ctx: TaskContext, goal: int) -> Done[str] | Again:
        turns.append((ctx.iteration, ctx.attempt))
        return Done("there") if ctx.iteration == goal else Again()

    async with running(app):
        handle = await count.enqueue(3)
        assert await handle.result(PATIENCE) == LoopResult(is_done=True, output="there", iterations=4)
        assert (await handle.execution()).deliveries == 0
    assert turns == [(0, 1), (1, 1), (2, 1), (3, 1)]
    assert place.count() == 1


async def test_a_loop_that_uses_up_its_iterations_is_completed_and_not_done(app: Durable) -> None:
    @app.loop(max_iterations=3)
    def again() -> Done[int] | Again:
        return Again()

    async with running(app):
        handle = await again.enqueue()
        assert await handle.result(PATIENCE) == LoopResult(is_done=False, output=None, iterations=3)
        assert await handle.status() == Status.COMPLETED


async def test_an_error_in_a_turn_fails_the_loop(app: Durable) -> None:
    @app.loop(max_iterations=9)
    async def breaks(ctx: TaskContext) -> Done[int] | Again:
        if ctx.iteration == 2:
            raise ValueError("third turn")
        return Again()

    async with running(app):
        handle = await breaks.enqueue()
        with pytest.raises(ExecutionFailed, match="third turn"):
            await handle.result(PATIENCE)
        record = await handle.execution()
        assert (record.status, record.iteration) == (Status.FAILED, 2)


async def test_attempts_count_within_a_turn(app: Durable) -> None:
    turns: list[tuple[int, int, str | None]] = []

    @app.loop(max_iterations=3, retry=Retry(2, constant(0)))
    async def flaky(ctx: TaskContext) -> Done[int] | Again:
        turns.append((ctx.iteration, ctx.attempt, ctx.previous_error and ctx.previous_error.message))
        if ctx.attempt == 1:
            raise ValueError(f"turn {ctx.iteration}")
        return Again()

    async with running(app):
        assert (await (await flaky.enqueue()).result(PATIENCE)).iterations == 3
    assert turns == [(n, attempt, f"turn {n}" if attempt == 2 else None) for n in range(3) for attempt in (1, 2)]


async def test_a_loop_waits_between_turns_without_a_slot(app: Durable) -> None:
    @app.loop(max_iterations=5, every="1h")
    async def slow(ctx: TaskContext) -> Done[int] | Again:
        return Again(0) if ctx.iteration == 0 else Again()

    @app.task
    async def other() -> str:
        return "free"

    async with running(app, concurrency=1):
        handle = await slow.enqueue()
        record = await until(app, handle.execution_id, lambda record: record.iteration == 2)
        assert await (await other.enqueue()).result(PATIENCE) == "free"
        assert (record.status, (record.due_at - record.updated_at).total_seconds()) == (Status.READY, 3600)


async def test_a_turn_that_returns_neither_is_told_so(app: Durable) -> None:
    @app.loop(max_iterations=2)
    async def wrong() -> Done[int] | Again:
        return None  # type: ignore[return-value]

    async with running(app):
        with pytest.raises(ExecutionFailed, match=r"return Done\(output\) or Again\(\)"):
            await (await wrong.enqueue()).result(PATIENCE)


@pytest.mark.parametrize("delay", [-1, float("nan"), "soon", True])
async def test_a_delay_that_cannot_be_meant_fails_the_loop(app: Durable, delay: float) -> None:
    @app.loop(max_iterations=2)
    async def wrong() -> Done[int] | Again:
        return Again(delay)

    async with running(app):
        with pytest.raises(ExecutionFailed, match=r"ConfigurationError: Again.delay"):
            await (await wrong.enqueue()).result(PATIENCE)


async def test_many_turns_leave_one_record(app: Durable, place: Place) -> None:
    @app.loop(max_iterations=200)
    async def spin() -> Done[int] | Again:
        return Again()

    async with running(app):
        assert (await (await spin.enqueue()).result(PATIENCE)).iterations == 200
    assert place.count() == 1


async def test_a_loop_can_be_a_child(app: Durable) -> None:
    @app.loop(max_iterations=4)
    async def count(ctx: TaskContext) -> Done[int] | Again:
        await asyncio.to_thread(lambda: None)
        return Done(ctx.iteration) if ctx.iteration == 2 else Again()

    @app.parent()
    async def parent() -> Spawn[None]:
        return Spawn(None, [count.child(), count.child()])

    async with running(app):
        result = await (await parent.enqueue()).result(PATIENCE)
    assert [end.result() for end in result.children] == [LoopResult(True, 2, 3)] * 2


def test_a_sequence_needs_a_step_and_a_loop_a_bound(app: Durable) -> None:
    with pytest.raises(TypeError):
        app.sequence("none")  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="cannot begin with a sleeping task"):
        app.sequence("sleepy", app.sleeping("sleep", int))
    with pytest.raises(ConfigurationError, match="max_iterations"):
        app.loop(max_iterations=0)
