"""The ends of two attempts at one execution, both held by one executor, and both waiting for the same write."""

import asyncio

import pytest

from durable import Durable, TaskContext
from durable.attempts import Attempt, Holdings
from durable.clock import SystemClock
from durable.execution import Claimed, Settled, Settlement
from durable.execution_log import ExecutionLog
from durable.rooms.held import HeldRows
from durable.rooms.settle import SettleRoom
from durable.transitions import complete

from .place import soon


async def claimed_twice(app: Durable) -> list[Claimed]:
    """The turns of an attempt whose lease ran out and of the one that holds it now."""
    turns: list[Claimed] = []
    for lease in (0.0, 60.0):
        turns += await app.storage.claim(
            executor_id="here", queues=["default"], task_names=["work"], limit=1, lease=lease
        )
        await app.storage.recover(limit=10)
    assert [turn.fence for turn in turns] == [1, 3]
    return turns


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["late first", "late last"])
async def test_they_are_told_apart(app: Durable, order: tuple[int, int]) -> None:
    @app.task
    async def work(ctx: TaskContext) -> str:
        raise AssertionError

    accepted: list[Settlement] = []
    refused = 0

    def on_settled(settlements: list[Settlement], settled: Settled, refused_now: int) -> None:
        nonlocal refused
        accepted.extend(settlements)
        refused += refused_now

    async with app:
        handle = await work.enqueue()
        turns = await claimed_twice(app)
        ends = [complete(turns[0], '"late"'), complete(turns[1], '"of the holder"')]
        room = SettleRoom(
            storage=app.storage,
            held=HeldRows(storage=app.storage, clock=SystemClock()),
            holdings=Holdings(),
            on_settled=on_settled,
            log=ExecutionLog(app.log_level_of),
            on_freed=lambda _: None,
        )
        for index in order:
            room.put(Attempt(turns[index], 0.0, 0.0), ends[index])
        writing = asyncio.ensure_future(room.run())
        await soon(room.flushed())
        writing.cancel()
        assert (accepted, refused, room.refused_count) == ([ends[1]], 1, 1)
        assert await handle.result(0) == "of the holder"
