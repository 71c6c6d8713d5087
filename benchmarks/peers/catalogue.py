"""The libraries that are compared, ours first."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Final

from benchmarks.peers.peer import Peer

__all__ = ["LIMIT", "OURS", "PEERS"]

_NO_STEPS: Final = {
    "steps": "no checkpointed steps",
    "fanout": "no parent that waits for its children's results",
}

OURS: Final = Peer(
    name="durable",
    version=version("durable-postgres"),
    configuration="its defaults: 100 handlers at once, LISTEN with a poll every 2 s",
    promises={
        "finished": "kept, until retention takes whole trees",
        "results": "stored with the end",
        "ends": "many in one write, behind the handlers; nobody is told of one before it is stored",
        "checkpoints": "before the await returns; steps that finish together in one write",
        "crash": "its work is taken over after 15 s; unwritten ends run again",
    },
    program="durable_worker",
)

LIMIT: Final = Peer(
    name="bare loop",
    version=version("psycopg"),
    configuration="psycopg on a table of five columns, batches of 200, two connections, one asyncio task per job",
    promises={
        "finished": "kept",
        "results": "stored with the end",
        "ends": "200 in one write with the next claim",
        "checkpoints": "before the next step begins, of 200 workflows in one write",
        "crash": "no recovery",
    },
    program="limit_worker",
    cannot={
        "latency": "it ends when nothing is left",
        "fanout": "no parents",
        "idle": "it ends when nothing is left",
    },
)

_PGQUEUER: Final = Peer(
    name="pgqueuer",
    version="1.6.0",
    configuration="asyncpg and uvloop, one connection, batch_size 500, durable tables",
    promises={
        "finished": "deleted; a log row each stays",
        "results": "not stored",
        "ends": "acknowledged from memory; written by the 500, or after 0.1 s",
        "checkpoints": "-",
        "crash": "its work is taken over after 30 s; unwritten ends run again",
    },
    program="pgqueuer_worker.py",
    requirements="pgqueuer.txt",
    cannot=_NO_STEPS,
)

_PROCRASTINATE: Final = Peer(
    name="procrastinate",
    version="3.10.0",
    configuration="psycopg (binary), 10 connections, concurrency 30, LISTEN",
    promises={
        "finished": "kept, with an event row for each change",
        "results": "not stored",
        "ends": "each by a statement of its own, before the handler's place is free",
        "checkpoints": "-",
        "crash": "its work stays as it is, until a task that the user writes retries it",
    },
    program="procrastinate_worker.py",
    requirements="procrastinate.txt",
    cannot=_NO_STEPS,
)

_DBOS: Final = Peer(
    name="dbos",
    version="3.4.0",
    configuration="queue polled every 10 ms, worker_concurrency 100, plain functions where those are faster",
    promises={
        "finished": "kept",
        "results": "stored with the end",
        "ends": "each in a transaction of its own",
        "checkpoints": "before the step returns, each in a transaction of its own",
        "crash": "taken up at the next start of the same executor id and version, or by its paid service",
    },
    program="dbos_worker.py",
    requirements="dbos.txt",
    default_pace="poll 1 s",
)

_ABSURD: Final = Peer(
    name="absurd",
    version="0.5.1",
    configuration="polling every 10 ms, concurrency 50; where work waits, 8 workers on 8 connections in one process",
    promises={
        "finished": "kept, until its clean-up takes them",
        "results": "stored with the end",
        "ends": "each by a statement of its own",
        "checkpoints": "before the await returns, each by a statement of its own",
        "crash": "its work is taken over after 120 s",
    },
    program="absurd_worker.py",
    requirements="absurd.txt",
    cannot={"bulk": "it stores one task at a time"},
    default_pace="poll 0.25 s",
)

_GRAPHILE: Final = Peer(
    name="graphile-worker",
    version="0.17.3",
    configuration="Node, 24 concurrent jobs, local queue of 500, completions batched (delay 0); 0.18 needs Node 22.18",
    promises={
        "finished": "deleted",
        "results": "not stored",
        "ends": "acknowledged from memory; written in batches",
        "checkpoints": "-",
        "crash": "its work is taken over after 4 hours; unwritten ends run again",
    },
    program="graphile_worker.mjs",
    requirements="graphile",
    cannot=_NO_STEPS,
)

PEERS: Final[Mapping[str, Peer]] = {peer.name: peer for peer in (_PGQUEUER, _PROCRASTINATE, _DBOS, _ABSURD, _GRAPHILE)}
