"""Published values: read and watched from outside, without an executor."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from durable import ConfigurationError, Durable, ExecutionNotFound, SerializationError, WorkflowContext
from durable.testing import VirtualStorage, app_under_test
from tests.flow.place import Place, PostgresPlace, running, soon
from tests.jobs.crew import client_only


@dataclass
class Progress:
    done: int
    of: int


async def test_a_value_is_read_as_what_it_was(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def importer(ctx: WorkflowContext) -> None:
        ctx.publish("progress", Progress(1, 2))
        ctx.publish("note", "half")
        await ctx.wait_signal("go", bool)

    async with app_under_test(app, storage=storage) as kit:
        handle = await importer.enqueue()
        await kit.drain()
        assert await handle.value("other") is None
        assert await handle.value("progress", Progress) == Progress(1, 2)
        values = await handle.values()
        assert values == {"progress": {"done": 1, "of": 2}, "note": "half"}
        assert values.value("progress", Progress) == Progress(1, 2)
        assert (values.value("other", int), values.at("note")) == (None, storage.now())
        with pytest.raises(SerializationError):
            await handle.value("note", int)
        with app.client() as client:
            calls = client.handle(importer, handle.execution_id)
            assert (calls.value("progress", Progress), calls.values()) == (Progress(1, 2), values)


async def test_values_of_what_is_not_there(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        pass

    async with client_only(storage, app):
        nobody = flow.handle("00000000-0000-7000-8000-000000000000")
        for call in (nobody.value("x"), nobody.values(), anext(nobody.watch("x"))):
            with pytest.raises(ExecutionNotFound):
                await call
        with pytest.raises(ConfigurationError, match="key"):
            nobody.watch("a#b")
        with pytest.raises(ConfigurationError, match="key"):
            await nobody.value("#update:x")
        with app.client() as client, pytest.raises(ExecutionNotFound):
            next(client.handle(flow, nobody.execution_id).watch("x"))


async def test_a_watcher_sees_each_value_until_the_end(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        for n in range(3):
            ctx.publish("n", n)
            ctx.publish("other", n)
            await ctx.wait_signal("go", bool)
        ctx.publish("n", 2)
        await ctx.wait_signal("go", bool)
        ctx.publish("n", 9)

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        values = handle.watch("n", int)
        for n in range(3):
            await kit.drain()
            assert await soon(anext(values)) == n
            await handle.signal("go", True)
        await kit.drain()
        following = asyncio.ensure_future(anext(values))
        await handle.signal("go", True)
        await kit.drain()
        assert await soon(following) == 9
        with pytest.raises(StopAsyncIteration):
            await soon(anext(values))
        assert [value async for value in handle.watch("n")] == [9]
        assert [value async for value in handle.watch("never")] == []


async def test_a_watcher_is_woken_by_another_process(postgres: PostgresPlace) -> None:
    """Its own poll would come long after the test has given up."""
    app, other = postgres.app(), postgres.app(poll_interval="10m")

    async def flow(ctx: WorkflowContext) -> None:
        for n in range(3):
            ctx.publish("n", n)
            await ctx.wait_signal("go", bool)

    app.workflow(flow)
    watched = other.workflow(flow)
    async with running(app), other:
        handle = await watched.enqueue()
        seen: list[int] = []

        async def watch() -> None:
            async for n in handle.watch("n", int):
                seen.append(n)
                await handle.signal("go", True)

        await soon(watch())
        assert seen == [0, 1, 2]


async def test_a_watcher_that_blocks_its_thread(place: Place) -> None:
    app = place.app()

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        for n in range(3):
            ctx.publish("n", n)
            await ctx.wait_signal("go", bool)

    def watch() -> list[int]:
        seen: list[int] = []
        with app.client() as client:
            handle = client.enqueue(flow)
            for n in handle.watch("n", int):
                seen.append(n)
                handle.signal("go", True)
        return seen

    async with running(app):
        assert await soon(asyncio.to_thread(watch)) == [0, 1, 2]
