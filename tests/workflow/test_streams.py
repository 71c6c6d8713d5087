"""Streams: pieces of output, from bodies once each and from steps at least once, read while the workflow runs."""

from __future__ import annotations

import asyncio
from asyncio import sleep as let_others_run
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from durable import (
    Chunk,
    ConfigurationError,
    Durable,
    ExecutionNotFound,
    Retry,
    SerializationError,
    Status,
    TaskContext,
    WorkflowContext,
    constant,
)
from durable.testing import VirtualStorage, app_under_test
from durable.workflow_rows import Checkpoint
from tests.flow.place import Place, running, soon
from tests.jobs.crew import Door, client_only, crew, reached


@dataclass
class Token:
    text: str


async def nothing() -> None:
    pass


async def test_a_body_streams_each_piece_once_over_restarts(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def writer(ctx: WorkflowContext) -> None:
        for n in range(3):
            ctx.emit(Token(f"before {n}"))
            await ctx.step(nothing)
            ctx.emit(Token(f"after {n}"))
            await ctx.wait_signal("go", bool)

    async with client_only(storage, app):
        handle = await writer.enqueue()
    for _ in range(3):
        async with crew(storage, app) as (kit,):
            await kit.drain()
            await writer.handle(handle.execution_id).signal("go", True)
    async with crew(storage, app) as (kit,):
        await kit.drain()
        handle = writer.handle(handle.execution_id)
        chunks = [chunk async for chunk in handle.stream(Token)]
        assert chunks == [
            Chunk(n + 1, Token(text), storage.now())
            for n, text in enumerate(f"{when} {n}" for n in range(3) for when in ("before", "after"))
        ]
        assert [chunk.value async for chunk in handle.stream(after=5)] == [{"text": "after 2"}]
        with app.client() as client:
            assert list(client.handle(writer, handle.execution_id).stream(Token)) == chunks
        with pytest.raises(SerializationError):
            await anext(handle.stream(int))
        with pytest.raises(ConfigurationError, match="after"):
            handle.stream(after=-1)
        with pytest.raises(ExecutionNotFound):
            await anext(writer.handle("00000000-0000-7000-8000-000000000000").stream())


async def test_more_pieces_than_are_read_at_once(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def writer(ctx: WorkflowContext) -> None:
        for n in range(1201):
            ctx.emit(n)

    async with app_under_test(app, storage=storage) as kit:
        handle = await writer.enqueue()
        await kit.drain()
        assert [chunk.value async for chunk in handle.stream(int)] == list(range(1201))


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_the_pieces_of_a_step_are_read_while_it_runs(place: Place, kind: str) -> None:
    app = place.app()
    heard = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def speak(ctx: TaskContext) -> str:
        ctx.emit("one")
        await heard.wait()
        ctx.emit("two")
        return "said"

    def shout(ctx: TaskContext) -> str:
        ctx.emit("one")
        asyncio.run_coroutine_threadsafe(heard.wait(), loop).result()
        ctx.emit("two")
        return "said"

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        ctx.emit("zero")
        ctx.emit(await (ctx.step(speak) if kind == "async" else ctx.step(shout)))

    async with running(app):
        handle = await flow.enqueue()
        got: list[str] = []

        async def read() -> None:
            async for chunk in handle.stream(str):
                got.append(chunk.value)
                if chunk.value == "one":
                    heard.set()

        await soon(read())
        assert got == ["zero", "one", "two", "said"]


async def test_a_step_that_is_tried_again_emits_again(app: Durable, storage: VirtualStorage) -> None:
    attempts: list[int] = []

    async def speak(ctx: TaskContext) -> None:
        attempts.append(1)
        ctx.emit(f"try {len(attempts)}")
        if len(attempts) < 2:
            raise ConnectionError("no")

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.with_options(retry=Retry(2, constant("1m"), jitter=0)).step(speak)
        ctx.emit("done")

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        await kit.clock.advance("1m")
        assert [chunk.value async for chunk in handle.stream()] == ["try 1", "try 2", "done"]
        assert await handle.status() is Status.COMPLETED


async def test_only_steps_stream(app: Durable, storage: VirtualStorage) -> None:
    refused: list[str] = []

    @app.task
    async def alone(ctx: TaskContext) -> None:
        try:
            ctx.emit("x")
        except ConfigurationError as error:
            refused.append(str(error))

    async def bad(ctx: TaskContext) -> None:
        with pytest.raises(SerializationError):
            ctx.emit({"x": object()})

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.step(bad)

    async with app_under_test(app, storage=storage) as kit:
        await alone.enqueue()
        handle = await flow.enqueue()
        await kit.drain()
        assert ("only a step" in refused[0], await handle.status()) == (True, Status.COMPLETED)


async def test_a_message_that_comes_while_a_checkpoint_is_written_is_not_missed(
    app: Durable, storage: VirtualStorage
) -> None:
    """A step runs, so the turn waits; nothing else would wake it."""
    door = Door()

    async def hold() -> str:
        await door.hold()
        return "held"

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        ctx.publish("running", True)
        return await ctx.wait_first(ctx.step(hold), ctx.wait_signal("go", str))

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        during = DuringCheckpoint(kit.app.storage, lambda: handle.signal("go", "heard"), kit.executor)
        kit.executor.wake()
        await reached(door)
        await kit.drain()
        assert (await handle.result(timeout=0), during.done) == ("heard", True)


class DuringCheckpoint:
    """Something that happens when the first checkpoint has been written, and before its answer is there."""

    def __init__(self, storage: Any, act: Callable[[], Awaitable[Any]], executor: Any) -> None:
        self._checkpoint = storage.checkpoint
        self._act = act
        self._executor = executor
        self.done = False
        storage.checkpoint = self

    async def __call__(self, rows: Any, **options: Any) -> Any:
        written = await self._checkpoint(rows, **options)
        if not self.done:
            self.done = True
            await self._act()
            await self._executor._cancel.step()  # as its loop does upon the hint
        return written


async def test_a_step_is_not_stored_before_its_last_piece(app: Durable, storage: VirtualStorage) -> None:
    """Else a crash between the two would lose the piece: the step does not run again."""

    async def speak(ctx: TaskContext, yields: int) -> None:
        ctx.emit(f"first {yields}")  # is being written while the step goes on
        for _ in range(yields):
            await let_others_run(0)
        ctx.emit(f"last {yields}")

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        for yields in range(8):
            await ctx.step(speak, yields)

    async with app_under_test(app, storage=storage) as kit:
        written: list[Checkpoint] = []
        checkpoint = kit.app.storage.checkpoint

        def note(rows: Sequence[Checkpoint], **options: Any) -> Any:
            written.extend(rows)
            return checkpoint(rows, **options)

        kit.app.storage.checkpoint = note  # type: ignore[method-assign]
        await flow.enqueue()
        await kit.drain()
        said = 0
        for each in written:
            said += len(each.chunks)
            ended = [entry.key for entry in each.entries if entry.kind == "step"]
            assert ended in ([], [f"speak#{said // 2}"])
            assert said % 2 == 0 or not ended
        assert said == 16
