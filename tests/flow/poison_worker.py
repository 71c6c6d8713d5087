"""A process with an executor, for tests that let it die: one task kills it, the others die with its first life."""

import asyncio
import os
import signal
import sys

from durable import Durable, Task
from storage_postgres import PostgresStorage


def declared(app: Durable, deaths: int = 0) -> tuple[Task[[], None], Task[[int], int], Task[[int], int]]:
    """The killer, the innocent, and the innocent in a pool, in a process after so many others have died."""
    pool = app.pool("innocents", max_parallelism=None)
    begun, never = asyncio.Event(), asyncio.Event()

    @app.task(name="killer", max_deliveries=2)
    async def kill() -> None:
        if not deaths:
            await begun.wait()
        os.kill(os.getpid(), signal.SIGKILL)

    @app.task(name="innocent", max_deliveries=2)
    async def be_innocent(n: int) -> int:
        begun.set()
        if not deaths:
            await never.wait()
        return n

    @pool.task(name="pooled", max_deliveries=2)
    async def be_innocent_in_a_pool(n: int) -> int:
        return await be_innocent(n)

    return kill, be_innocent, be_innocent_in_a_pool


async def main(dsn: str, schema: str, deaths: int) -> None:
    app = Durable(storage=PostgresStorage(dsn, schema=schema, max_size=2), poll_interval="50ms")
    declared(app, deaths)
    async with app, app.executor(lease="500ms", poll_interval="50ms", upkeep_interval="50ms"):
        await asyncio.to_thread(sys.stdin.read)  # until the test goes away


if __name__ == "__main__":
    dsn, schema, deaths = sys.argv[1:]
    asyncio.run(main(dsn, schema, int(deaths)))
