"""One of several executors: for each schema it is told it connects, works from the next line to the one after it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

from benchmarks.common import Countdown
from benchmarks.drain import declare_counted
from durable import Durable


async def main(settings: dict[str, Any]) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async for line in lines:
        await _serve(line.decode().strip(), lines, settings)


async def _serve(schema: str, lines: asyncio.StreamReader, settings: dict[str, Any]) -> None:
    """Say when it is connected, and after the work the CPU seconds that it took."""
    app = Durable(os.environ["DURABLE_DSN"], schema=schema)
    declare_counted(app, Countdown())
    async with app:
        print("connected", flush=True)
        await lines.readline()
        busy = time.process_time()
        async with app.executor(**settings):
            await lines.readline()
            busy = time.process_time() - busy
    print(json.dumps({"cpu_s": busy}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
