"""The client in another process: enqueues one execution at a time, and prints each delay in milliseconds as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from benchmarks.latency import StampingStorage, declare_stamp, delays
from durable import Durable


async def main(schema: str, count: int) -> None:
    storage = StampingStorage(os.environ["DURABLE_DSN"], schema=schema)
    app = Durable(storage=storage)
    stamp = declare_stamp(app)
    async with app:
        print(json.dumps(await delays(stamp, storage, count)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
