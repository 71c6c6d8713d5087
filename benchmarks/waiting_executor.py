"""An executor among workflows that wait; for each line of its input it prints the bytes that its process holds."""

from __future__ import annotations

import asyncio
import os
import sys

from benchmarks.jobs_memory import resident_bytes
from benchmarks.waiting import declare_waiter
from durable import Durable


async def main(schema: str) -> None:
    app = Durable(os.environ["DURABLE_DSN"], schema=schema)
    declare_waiter(app)
    lines = asyncio.StreamReader()
    async with app, app.executor():
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        async for _ in lines:
            print(resident_bytes(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
