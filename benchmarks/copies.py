"""Make executions on the server, as copies of one that was made as users make them: millions within a minute or two."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from psycopg import sql

from benchmarks.common import Bench
from durable.execution import DEFAULT_QUEUE

__all__ = ["copied", "copy_statement", "set_aside", "settled_in"]

_CHUNK: Final = 500_000
# Ids are UUIDs of version 7 that grow with the row's time, as the library makes them.
_COPY = sql.SQL("""
insert into {executions} (id, root_id, {shifted}, {columns})
select n.id, n.id, {moments}, {values}
from {executions} as e
    cross join (
        select (pg_catalog.lpad(pg_catalog.to_hex((extract(epoch from m.at) * 1000)::bigint), 12, '0') || '7'
                || pg_catalog.substr(pg_catalog.replace(pg_catalog.gen_random_uuid()::text, '-', ''), 14))::uuid as id,
            m.at
        from (
            select pg_catalog.clock_timestamp() - {from_age}::interval
                + (i - 1) * ({from_age}::interval - {to_age}::interval) / {count} as at
            from pg_catalog.generate_series(1, {count}) as i
        ) as m
        order by 1
    ) as n
where e.id = {template}::uuid
""")
_COLUMNS = sql.SQL("""
select array_agg(attname::text order by attnum) filter (where atttypid <> 'timestamptz'::regtype),
    array_agg(attname::text order by attnum) filter (where atttypid = 'timestamptz'::regtype)
from pg_catalog.pg_attribute
where attrelid = {table}::text::regclass and attnum > 0 and not attisdropped
    and not attname = any(array['id', 'root_id'])
""")


def set_aside(bench: Bench, schema: str) -> str:
    """The id of the only execution in the schema, moved to a queue that nobody serves, so that it stays as it is."""
    table = sql.Identifier(schema, "executions")
    (id_,) = bench.one(sql.SQL("update {} set queue = 'template' returning id::text").format(table))
    return str(id_)


def copy_statement(
    bench: Bench,
    schema: str,
    template: str,
    count: int,
    *,
    ages: tuple[timedelta, timedelta] = (timedelta(0), timedelta(0)),
) -> sql.Composed:
    """The statement that copies an execution `count` times, spread evenly from the first age to the second.

    Every moment of a copy that its template has is that of its id.
    """
    table = sql.Identifier(schema, "executions")
    plain, moments = bench.one(_COLUMNS.format(table=sql.Literal(table.as_string())))
    others = {"queue": sql.Literal(DEFAULT_QUEUE)}
    moment = sql.SQL("case when {} is not null then n.at end")
    join = sql.SQL(", ").join
    return _COPY.format(
        executions=table, count=sql.Literal(count), template=sql.Literal(template),
        shifted=join(sql.Identifier(name) for name in moments),
        columns=join(sql.Identifier(name) for name in plain),
        moments=join(moment.format(sql.Identifier("e", name)) for name in moments),
        values=join(others.get(name, sql.Identifier("e", name)) for name in plain),
        from_age=sql.Literal(ages[0]), to_age=sql.Literal(ages[1]),
    )  # fmt: skip


def copied(bench: Bench, schema: str, template: str, count: int, *, ages: tuple[timedelta, timedelta]) -> None:
    """Copy an execution `count` times; the ages as in `copy_statement`."""
    first, last = ages
    done = 0
    while done < count:
        bench.phase(f"making {count:,} executions: {done:,}")
        chunk = min(_CHUNK, count - done)
        step = (first - last) / count
        part = (first - step * done, first - step * (done + chunk))
        bench.execute(copy_statement(bench, schema, template, chunk, ages=part))
        done += chunk


def settled_in(bench: Bench, schema: str) -> None:
    """Have the table as it is some time after it was filled: vacuumed, with statistics, and on the disk."""
    bench.phase("vacuum and checkpoint")
    bench.execute(sql.SQL("vacuum analyze {}").format(sql.Identifier(schema, "executions")))
    bench.checkpoint()
