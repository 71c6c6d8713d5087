"""What a bare psycopg loop reaches on a minimal table: the limits that the workloads are measured against."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from storage_postgres.arrays import plain, texts
from storage_postgres.statements import render

__all__ = ["OPTIONS", "bulk_limit", "commits_limit", "copy_limit", "drain_limit", "enqueue_limit"]

_BATCH = 200
OPTIONS = "-c jit=off -c plan_cache_mode=force_generic_plan -c enable_seqscan=off"
"""Those of the library's own connections."""

_MAKE: LiteralString = """
create table /*schema*/jobs (
    queue smallint not null default 0,
    id bigint primary key,
    state smallint not null default 0,
    input text not null,
    output text
);
create index on /*schema*/jobs (queue, id) where state = 0;
"""
_FILL: LiteralString = """
insert into /*schema*/jobs (id, input)
select i, i::text from pg_catalog.generate_series(1, %(count)s::bigint) as i
"""
# Both halves in one statement: one round trip and one commit for a batch finished and a batch taken.
_TURN: LiteralString = """
with done as (
    update /*schema*/jobs as j
    set state = 2, output = i.output
    from unnest(%(ids)s::bigint[], %(outputs)s::text[]) as i (id, output)
    where j.id = i.id and j.id = any(%(ids)s::bigint[])
),
picked as materialized (
    select ctid from /*schema*/jobs
    where state = 0
    order by queue, id
    limit %(limit)s::bigint
    for update skip locked
)
update /*schema*/jobs set state = 1
where ctid = any(array(select ctid from picked))
returning id, input
"""
_COUNT: LiteralString = "select count(*) from /*schema*/jobs where state = %(state)s::smallint"
_ONE: LiteralString = "insert into /*schema*/jobs (id, input) values (%(id)s::bigint, %(input)s::text)"
_MANY: LiteralString = """
insert into /*schema*/jobs (id, input)
select i.id, i.input from unnest(%(ids)s::bigint[], %(inputs)s::text[]) as i (id, input)
"""
_COPY: LiteralString = "copy /*schema*/jobs (id, input) from stdin"


class _Table:
    """The minimal table, and connections to its server."""

    def __init__(self, schema: str, connections: list[psycopg.AsyncConnection[Any]]) -> None:
        self._schema = schema
        self.connections = connections

    def text(self, statement: LiteralString) -> bytes:
        return render(statement, self._schema).as_bytes(None)

    async def count(self, state: int) -> int:
        cursor = await self.connections[0].execute(self.text(_COUNT), {"state": state})
        row = await cursor.fetchone()
        assert row is not None
        return int(row[0])


@asynccontextmanager
async def _minimal_table(dsn: str, schema: str, connections: int = 1) -> AsyncGenerator[_Table]:
    given = conninfo_to_dict(dsn).get("options") or ""
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(
                await psycopg.AsyncConnection.connect(dsn, autocommit=True, options=f"{OPTIONS} {given}")
            )
            for _ in range(connections)
        ]
        table = _Table(schema, opened)
        await opened[0].execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
        await opened[0].execute(table.text(_MAKE))
        yield table


async def _job(text: str) -> str:
    return text


async def _drain(connection: psycopg.AsyncConnection[Any], turn: bytes) -> None:
    cursor = connection.cursor()
    ids: list[int] = []
    outputs: list[str] = []
    while True:
        params = {"ids": plain(ids), "outputs": texts(outputs), "limit": _BATCH}
        await cursor.execute(turn, params, prepare=True)
        rows = await cursor.fetchall()
        if not rows:
            return
        tasks = [asyncio.create_task(_job(text)) for _, text in rows]
        await asyncio.wait(tasks)
        ids = [id_ for id_, _ in rows]
        outputs = [task.result() for task in tasks]


async def drain_limit(dsn: str, schema: str, count: int) -> float:
    """Jobs per second: batches of 200 claimed and completed, an asyncio task for each job.

    Two loops on two connections, so that the server works for one while Python works for the other.
    """
    async with _minimal_table(dsn, schema, connections=2) as table:
        await table.connections[0].execute(table.text(_FILL), {"count": count})
        turn = table.text(_TURN)
        began = time.perf_counter()
        await asyncio.gather(*(_drain(connection, turn) for connection in table.connections))
        took = time.perf_counter() - began
        if await table.count(2) != count:
            raise AssertionError("the bare loop left jobs undone; its rate means nothing")
        return count / took


async def enqueue_limit(dsn: str, schema: str, count: int) -> float:
    """Rows per second: one connection, one row and one commit at a time."""
    return await commits_limit(dsn, schema, count, 1)


async def commits_limit(dsn: str, schema: str, count: int, connections: int) -> float:
    """Rows per second: so many connections of this process, each with one row and one commit at a time."""
    async with _minimal_table(dsn, schema, connections=connections) as table:
        insert, numbers = table.text(_ONE), iter(range(count))

        async def commit(connection: psycopg.AsyncConnection[Any]) -> None:
            for number in numbers:
                await connection.execute(insert, {"id": number, "input": str(number)}, prepare=True)

        began = time.perf_counter()
        await asyncio.gather(*(commit(connection) for connection in table.connections))
        return count / (time.perf_counter() - began)


async def copy_limit(dsn: str, schema: str, count: int) -> float:
    """Rows per second: all in one COPY in text format."""
    async with _minimal_table(dsn, schema) as table:
        (connection,) = table.connections
        began = time.perf_counter()
        async with connection.cursor() as cursor, cursor.copy(table.text(_COPY)) as copy:
            for number in range(count):
                await copy.write_row((number, str(number)))
        return count / (time.perf_counter() - began)


async def bulk_limit(dsn: str, schema: str, count: int) -> float:
    """Rows per second: all in one statement, two arrays through unnest."""
    async with _minimal_table(dsn, schema) as table:
        (connection,) = table.connections
        began = time.perf_counter()
        params = {"ids": plain(range(count)), "inputs": texts(str(number) for number in range(count))}
        await connection.execute(table.text(_MANY), params)
        return count / (time.perf_counter() - began)
