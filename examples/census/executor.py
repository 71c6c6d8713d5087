"""An executor process of the census: `python -m examples.census.executor SCHEMA`, until its standard input ends.

It prints its id, which stands in every record that it runs. Started by the crash mode, which kills one of them.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import warnings

from examples.census.tasks import census_app

__all__ = ["LEASE"]

LEASE = 3.0
"""Seconds after which the executions of a dead process are taken over. The default is 15."""


async def main(schema: str) -> None:
    app = census_app(None, schema)
    executor = app.executor(concurrency=4, threads=2, lease=LEASE, upkeep_interval="500ms", poll_interval="500ms")
    async with executor as running:
        print(running.id, flush=True)
        # Ends when the parent closes the pipe, also when it does so by dying.
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    warnings.simplefilter("ignore", SyntaxWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    asyncio.run(main(sys.argv[1]))
