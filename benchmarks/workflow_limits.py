"""What a bare psycopg loop reaches that writes the least a workflow engine must: the limit of the workload `steps`."""

from __future__ import annotations

import asyncio
import time
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from benchmarks.limits import OPTIONS
from storage_postgres.arrays import plain, texts
from storage_postgres.statements import render

__all__ = ["steps_limit"]

_BATCH = 100
"""Workflows that go on side by side, as in an executor with its own settings."""

_MAKE: LiteralString = """
create table /*schema*/workflows (
    id bigint primary key,
    state smallint not null default 0,
    output text
);
create index on /*schema*/workflows (id) where state = 0;
create table /*schema*/steps (
    workflow_id bigint not null,
    number integer not null,
    name text not null,
    output text,
    at timestamptz not null default now(),
    primary key (workflow_id, number)
);
"""
_FILL: LiteralString = """
insert into /*schema*/workflows (id) select i from pg_catalog.generate_series(1, %(count)s::bigint) as i
"""
# The end of a batch and the claim of the next are one statement, and so is each step of a batch: one commit for each.
_TURN: LiteralString = """
with done as (
    update /*schema*/workflows as w
    set state = 2, output = i.output
    from unnest(%(ids)s::bigint[], %(outputs)s::text[]) as i (id, output)
    where w.id = i.id and w.id = any(%(ids)s::bigint[])
),
picked as materialized (
    select ctid from /*schema*/workflows
    where state = 0
    order by id
    limit %(limit)s::bigint
    for update skip locked
)
update /*schema*/workflows set state = 1
where ctid = any(array(select ctid from picked))
returning id
"""
_STEP: LiteralString = """
insert into /*schema*/steps (workflow_id, number, name, output)
select i.id, %(number)s::integer, %(name)s::text, i.output
from unnest(%(ids)s::bigint[], %(outputs)s::text[]) as i (id, output)
"""
_COUNT: LiteralString = """
select (select count(*) from /*schema*/workflows where state = 2), (select count(*) from /*schema*/steps)
"""


async def _step(number: int) -> str:
    return str(number)


async def _outputs(ids: list[int]) -> list[str]:
    tasks = [asyncio.create_task(_step(id_)) for id_ in ids]
    await asyncio.wait(tasks)
    return [task.result() for task in tasks]


async def _work(connection: psycopg.AsyncConnection[Any], schema: str, steps: int) -> None:
    cursor = connection.cursor()
    turn, step = (render(text, schema).as_bytes(None) for text in (_TURN, _STEP))
    ids: list[int] = []
    outputs: list[str] = []
    while True:
        params = {"ids": plain(ids), "outputs": texts(outputs), "limit": _BATCH}
        await cursor.execute(turn, params, prepare=True)
        ids = [id_ for (id_,) in await cursor.fetchall()]
        if not ids:
            return
        for number in range(1, steps + 1):
            outputs = await _outputs(ids)
            params = {"ids": plain(ids), "outputs": texts(outputs), "number": number, "name": f"noop#{number}"}
            await cursor.execute(step, params, prepare=True)


async def steps_limit(dsn: str, schema: str, count: int, steps: int) -> float:
    """Steps per second: batches of 100 workflows claimed, a row for each step of each, one commit for a batch of rows.

    Two loops on two connections, so that the server works for one while Python works for the other.
    """
    opened = [await psycopg.AsyncConnection.connect(dsn, autocommit=True, options=OPTIONS) for _ in range(2)]
    try:
        first = opened[0]
        await first.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
        await first.execute(render(_MAKE, schema).as_bytes(None))
        await first.execute(render(_FILL, schema).as_bytes(None), {"count": count})
        began = time.perf_counter()
        await asyncio.gather(*(_work(connection, schema, steps) for connection in opened))
        took = time.perf_counter() - began
        cursor = await first.execute(render(_COUNT, schema).as_bytes(None))
        if await cursor.fetchone() != (count, count * steps):
            raise AssertionError("the bare loop left steps undone; its rate means nothing")
        return count * steps / took
    finally:
        for connection in opened:
            await connection.close()
