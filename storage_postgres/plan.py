"""Run a plan: a generator that yields queries and is sent their rows, on a connection of either colour.

A verb is written once, as a plan; the two drivers below are the only code that differs between blocking and
asynchronous connections. So the same verb also runs inside the caller's own transaction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg.rows import tuple_row

from storage_postgres.failures import translated
from storage_postgres.loaders import register_loaders
from storage_postgres.prepared import BlockingOwn, Own, Rows
from storage_postgres.statements import Statements

__all__ = ["Plan", "Query", "Rows", "Undo", "drive", "drive_async", "drive_on", "drive_on_async", "waiting"]

T = TypeVar("T")


class Query(NamedTuple):
    """One named statement with its parameters."""

    name: str
    params: Mapping[str, object]
    rest: Iterable[Mapping[str, object]] = ()
    """Further parameters to run the same statement with, each made while the server works on those before. Then nobody
    is told of any answer."""


Plan = Generator[Query, Rows, T]
Asking = Callable[[Query], Awaitable[Rows]]


class Undo(Exception):
    """Raised by a plan to roll its transaction back and still give a result."""

    def __init__(self, result: Any) -> None:
        self.result = result


def waiting(plan: Plan[T], lock_timeout: float | None) -> Plan[T]:
    """The plan with a bound, in seconds, for how long its statements wait for rows; None: that of the connection.

    Those that may wait for somebody's transaction have it as a parameter, which `may_wait` in SQL puts into effect.
    """
    given = {"lock_timeout": None if lock_timeout is None else str(round(lock_timeout * 1000))}
    try:
        query = next(plan)
        while True:
            query = plan.send((yield query._replace(params={**query.params, **given})))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def drive(make_plan: Callable[[], Plan[T]], connection: BlockingOwn, statements: Statements, transaction: bool) -> T:
    """Run a plan on a blocking connection of ours; `transaction` wraps it in one. Raises psycopg.Error."""
    if not transaction:
        return _drive(make_plan(), partial(_ask, connection, statements))
    try:
        with connection.transaction():
            return _drive(make_plan(), partial(_ask, connection, statements))
    except Undo as undo:
        return undo.result  # type: ignore[no-any-return]  # the plan that raised it is a Plan[T]


def drive_on(
    make_plan: Callable[[], Plan[T]], connection: psycopg.Connection[Any], statements: Statements, transaction: bool
) -> T:
    """Run a plan in the transaction of the caller's connection; `transaction` wraps it in a savepoint.

    The cursor and its loaders are ours, because the caller's may bind and read in another way.
    """
    with translated(), psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
        register_loaders(cursor)
        if not transaction:
            return _drive(make_plan(), partial(_answer, cursor, statements, False))
        if _has_not_begun(connection):
            cursor.execute("select 1")  # begins the caller's transaction; otherwise the block below would end one
        try:
            with connection.transaction():
                return _drive(make_plan(), partial(_answer, cursor, statements, False))
        except Undo as undo:
            return undo.result  # type: ignore[no-any-return]  # the plan that raised it is a Plan[T]


def drive_async(
    make_plan: Callable[[], Plan[T]], connection: Own, statements: Statements, transaction: bool
) -> Awaitable[T]:
    """As `drive`, on an asynchronous connection."""
    ask = partial(_ask_async, connection, statements)
    return _transact_async(make_plan, connection, ask) if transaction else _drive_async(make_plan(), ask)


async def _transact_async(make_plan: Callable[[], Plan[T]], connection: Own, ask: Asking) -> T:
    try:
        async with connection.transaction():
            return await _drive_async(make_plan(), ask)
    except Undo as undo:
        return undo.result  # type: ignore[no-any-return]  # the plan that raised it is a Plan[T]


async def drive_on_async(
    make_plan: Callable[[], Plan[T]],
    connection: psycopg.AsyncConnection[Any],
    statements: Statements,
    transaction: bool,
) -> T:
    """As `drive_on`, on an asynchronous connection."""
    with translated():
        async with psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:
            register_loaders(cursor)
            if not transaction:
                return await _drive_async(make_plan(), partial(_answer_async, cursor, statements, False))
            if _has_not_begun(connection):
                await cursor.execute("select 1")
            try:
                async with connection.transaction():
                    return await _drive_async(make_plan(), partial(_answer_async, cursor, statements, False))
            except Undo as undo:
                return undo.result  # type: ignore[no-any-return]  # the plan that raised it is a Plan[T]


def _has_not_begun(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    return not connection.autocommit and connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE


def _drive(plan: Plan[T], ask: Callable[[Query], Rows]) -> T:
    try:
        query = next(plan)
        while True:
            query = plan.send(ask(query))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def _drive_async(plan: Plan[T], ask: Asking) -> T:
    try:
        query = next(plan)
        while True:
            query = plan.send(await ask(query))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def _ask(connection: BlockingOwn, statements: Statements, query: Query) -> Rows:
    prepared = connection.prepared
    if prepared is not None and not query.rest:
        return connection.wait(prepared.ask(query.name, query.params))
    with connection.cursor(row_factory=tuple_row) as cursor:
        return _answer(cursor, statements, prepared is not None, query)


def _ask_async(connection: Own, statements: Statements, query: Query) -> Awaitable[Rows]:
    prepared = connection.prepared
    if prepared is not None and not query.rest:
        return connection.wait(prepared.ask(query.name, query.params))
    return _ask_by_cursor_async(connection, statements, query)


async def _ask_by_cursor_async(connection: Own, statements: Statements, query: Query) -> Rows:
    async with connection.cursor(row_factory=tuple_row) as cursor:
        return await _answer_async(cursor, statements, connection.prepared is not None, query)


def _answer(cursor: psycopg.Cursor[Any], statements: Statements, prepare: bool, query: Query) -> Rows:
    text = statements[query.name]
    if not query.rest:
        cursor.execute(text, query.params, prepare=prepare)
        return cursor.fetchall()
    with cursor.connection.pipeline() if prepare else nullcontext():
        for params in chain([query.params], query.rest):
            # Not by psycopg: after a rollback it takes away all that the session has prepared, ours included.
            cursor.execute(text, params, prepare=False)
            if not prepare:
                cursor.fetchall()  # the caller may be in a pipeline, where nothing else tells that it has run
    return []


async def _answer_async(cursor: psycopg.AsyncCursor[Any], statements: Statements, prepare: bool, query: Query) -> Rows:
    text = statements[query.name]
    if not query.rest:
        await cursor.execute(text, query.params, prepare=prepare)
        return await cursor.fetchall()
    async with cursor.connection.pipeline() if prepare else nullcontext():
        for params in chain([query.params], query.rest):
            await cursor.execute(text, params, prepare=False)
            if not prepare:
                await cursor.fetchall()
    return []
