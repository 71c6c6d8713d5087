"""A bare psycopg loop on a minimal table: what is left when a library does nothing, as a program of the comparison."""

from __future__ import annotations

from benchmarks.limits import bulk_limit, drain_limit, enqueue_limit
from benchmarks.peers.script import STEPS, Found, main
from benchmarks.workflow_limits import steps_limit

_DSN = "postgresql://"
_SCHEMA = "bench"


async def drain(count: int) -> Found:
    return {"seconds": count / await drain_limit(_DSN, _SCHEMA, count), "done": count}


async def enqueue(count: int) -> Found:
    return {"seconds": count / await enqueue_limit(_DSN, _SCHEMA, count), "done": count}


async def bulk(count: int) -> Found:
    return {"seconds": count / await bulk_limit(_DSN, _SCHEMA, count), "done": count}


async def steps(count: int) -> Found:
    return {"seconds": count * STEPS / await steps_limit(_DSN, _SCHEMA, count, STEPS), "done": count * STEPS}


if __name__ == "__main__":
    main({"drain": drain, "enqueue": enqueue, "bulk": bulk, "steps": steps})
