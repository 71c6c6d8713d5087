"""An executor among idle jobs: prints the bytes of memory that its process holds, once it has run some turns."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from benchmarks.instances import declare_jobs
from durable import Durable

_TURNS = 20


async def main(schema: str) -> None:
    app = Durable(os.environ["DURABLE_DSN"], schema=schema)
    _, order = declare_jobs(app)
    async with app, app.executor():
        for number in range(_TURNS):
            await order.send(f"{number % 10}", 1, wait=True, timeout=60)
        print(resident_bytes())


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
