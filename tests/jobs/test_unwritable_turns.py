"""A turn whose end the storage will not take fails, and its job goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from durable import Durable
from durable.execution import Settled, Settlement
from durable.jobs import EventContext, JobExecutionError, ShownStatus
from durable.memory import MemoryStorage
from durable.memory.operation import MemoryOperation
from tests.flow.place import running, soon


class _Picky(MemoryStorage):
    """Takes no turn that would leave this state."""

    def settle(self, settlements: Sequence[Settlement], **options: Any) -> MemoryOperation[Settled]:
        if any(item.job is not None and item.job.state == '"unwritable"' for item in settlements):
            raise ValueError("the storage does not take this")
        return super().settle(settlements, **options)


async def test_its_event_is_kept_as_failed_and_the_next_is_handled() -> None:
    app = Durable(storage=_Picky())
    job = app.task_job("order", state=str, event=str)
    replaced: dict[str, str] = {}

    @job.on_event
    async def on_event(ctx: EventContext[str, str], event: str) -> None:
        ctx.set_state(replaced.get(event, event))

    async with running(app):
        await soon(job.send("k", "first", wait=True))
        with pytest.raises(JobExecutionError, match="does not take this"):
            await soon(job.send("k", "unwritable", wait=True))
        status = await job.status("k")
        assert (status.status, status.pending_count) == (ShownStatus.IDLE, 0)
        assert (await job.state("k")).state == "first"

        await soon(job.send("k", "third", wait=True))
        assert (await job.state("k")).state == "third"
        replaced["unwritable"] = "repaired"
        assert (await job.redrive("k")).redriven
        await soon(job.send("k", "fifth", wait=True))
        assert (await job.status("k")).event_count == 4
