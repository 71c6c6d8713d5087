"""One executor process of the fault suite: runs until it is ended, and tries to write late when it was frozen."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

from durable.child import place
from durable.execution import Claimed
from durable.storage import Storage
from durable.transitions import complete, fail, release, spawn
from tests.faults.app import app, held, ledger, plain

LEASE = float(os.environ.get("DURABLE_FAULTS_LEASE", "2"))


class Refusals(logging.Handler):
    """The executor's own late ends, which it reports when they are refused."""

    def emit(self, record: logging.LogRecord) -> None:
        if "late end" in str(record.msg):
            ledger.write("refused", message=record.getMessage())


async def write_late(storage: Storage, claimed: Claimed) -> None:
    """Everything an attempt can write, under the fence it had before the freeze. Each must change nothing."""
    new = plain.child(1).new
    child = place(
        new, execution_id=app.new_id(), parent_id=claimed.id, root_id=claimed.root_id, index=0, depth=1,
        is_finalize=False,
    )  # fmt: skip
    for name, settlement in (
        ("complete", complete(claimed, '"late"')),
        ("fail", fail(claimed, '{"type": "late", "message": ""}', retry_delay=None)),
        ("retry", fail(claimed, '{"type": "late", "message": ""}', retry_delay=0.0)),
        ("release", release(claimed)),
        ("children", spawn(claimed, None, (child,))),
    ):
        accepted = claimed.id in (await storage.settle([settlement])).accepted
        ledger.write("late", id=claimed.id, fence=claimed.fence, what=name, accepted=accepted)
    accepted = claimed.id in await storage.renew([(claimed.id, claimed.fence)], lease=60.0)
    ledger.write("late", id=claimed.id, fence=claimed.fence, what="renew", accepted=accepted)
    accepted = claimed.id in await storage.heartbeat([(claimed.id, claimed.fence, '"late"')])
    ledger.write("late", id=claimed.id, fence=claimed.fence, what="heartbeat", accepted=accepted)


async def write_late_when_thawed(thawed: asyncio.Event) -> None:
    """After each SIGCONT, try to write for everything that was running here when the process was stopped."""
    while True:
        await thawed.wait()
        thawed.clear()
        for claimed in tuple(held.values()):
            await write_late(app.storage, claimed)


async def main() -> None:
    logging.getLogger("durable").addHandler(Refusals())
    stop, thawed = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGCONT, thawed.set)
    async with app.executor(lease=LEASE, poll_interval="200ms", concurrency=12, threads=6, grace="1s"):
        ledger.write("up")
        watcher = asyncio.create_task(write_late_when_thawed(thawed))
        await stop.wait()
        watcher.cancel()


if __name__ == "__main__":
    asyncio.run(main())
