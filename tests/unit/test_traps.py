"""A body that does by itself what a replay would do again is warned of, and no other."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import threading
import time
import uuid
import warnings
from datetime import datetime
from random import randint
from time import sleep as pause
from typing import Any

import pytest

from durable import Durable, WorkflowContext, WorkflowTrapWarning
from durable.workflow.traps import traps_in


async def _time(ctx: WorkflowContext) -> None:
    print(time.time(), datetime.now(dt.UTC), dt.datetime.utcnow(), dt.date.today())  # noqa: DTZ003, DTZ011
    pause(1)  # noqa: ASYNC251


async def _chance(ctx: WorkflowContext) -> None:
    import random as chance
    from uuid import uuid4

    print(random.random(), randint(1, 2), uuid.uuid4(), uuid4(), chance.choice("ab"))


async def _blocking(ctx: WorkflowContext) -> None:
    with open("/dev/null") as file:  # noqa: ASYNC230
        threading.Thread(target=file.read).start()


async def _harmless(ctx: WorkflowContext, time: Any) -> None:
    def step() -> float:
        return random.random()

    await ctx.step(step)
    asyncio.create_task(asyncio.Event().wait())  # noqa: RUF006
    time.time()
    print(random.Random(7).random(), ctx.now(), ctx.random.random(), datetime(2030, 1, 1, tzinfo=dt.UTC))
    await ctx.step(lambda: str(uuid.uuid4()))
    uuid.uuid4()  # the time has come - durable: ok


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            _time,
            ["datetime.date.today", "datetime.datetime.now", "datetime.datetime.utcnow", "time.time", "time.sleep"],
        ),
        (_chance, ["random.Random.randint", "random.choice", "random.random", "uuid.uuid4", "uuid.uuid4"]),
        (_blocking, ["io.open", "threading.Thread"]),
        (_harmless, []),
        (traps_in, []),
        (len, []),
    ],
)
def test_the_traps_of_a_body_are_found_and_nothing_else(body: Any, expected: list[str]) -> None:
    assert [trap.call.replace("_io.", "io.") for trap in traps_in(body)] == expected


def test_a_trap_is_warned_of_at_its_line_where_the_workflow_is_declared() -> None:
    app = Durable("postgresql://nobody@nowhere.invalid/nothing")
    with pytest.warns(WorkflowTrapWarning, match=r"'.*flow' calls time.time, .*: use ctx.now\(\)") as caught:

        @app.workflow
        async def flow(ctx: WorkflowContext) -> float:
            return time.time()  # here

    (warning,) = caught
    assert warning.filename == __file__
    with open(__file__, encoding="utf-8") as file:
        assert "return time.time()  # here" in file.read().splitlines()[warning.lineno - 1]
    with pytest.warns(WorkflowTrapWarning, match="uuid.uuid4"):

        @flow.finalize
        async def last(ctx: WorkflowContext) -> None:
            uuid.uuid4()


def test_the_warning_can_be_silenced() -> None:
    app = Durable("postgresql://nobody@nowhere.invalid/nothing")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", WorkflowTrapWarning)

        @app.workflow
        async def flow(ctx: WorkflowContext) -> float:
            return time.time()

        assert flow.name == "flow"
