"""Run a plan: a generator that yields queries and is sent their rows, on a connection of either colour.

A verb is written once, as a plan; the two drivers below are the only code that differs between blocking and
asynchronous connections. So the same verb also runs inside the caller's own transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg.rows import tuple_row

from storage_postgres.failures import translated
from storage_postgres.statements import Statements

__all__ = ["Plan", "Query", "Rows", "Undo", "drive", "drive_async"]

T = TypeVar("T")
Rows = list[tuple[Any, ...]]


class Query(NamedTuple):
    """One named statement with its parameters."""

    name: str
    params: Mapping[str, object]


Plan = Generator[Query, Rows, T]


class Undo(Exception):
    """Raised by a plan to roll its transaction back and still give a result."""

    def __init__(self, result: Any) -> None:
        self.result = result


def drive(make_plan: Callable[[], Plan[T]], connection: psycopg.Connection[Any], statements: Statements,
          prepare: bool | None, transaction: bool) -> T:  # fmt: skip
    """Run a plan on a blocking connection; `transaction` wraps it in one, or in a savepoint of the caller's."""
    with translated():
        if not transaction:
            return _drive(make_plan(), connection, statements, prepare)
        try:
            with connection.transaction():
                return _drive(make_plan(), connection, statements, prepare)
        except Undo as undo:
            return undo.result  # type: ignore[no-any-return]  # the plan that raised it is a Plan[T]


async def drive_async(make_plan: Callable[[], Plan[T]], connection: psycopg.AsyncConnection[Any],
                      statements: Statements, prepare: bool | None, transaction: bool) -> T:  # fmt: skip
    """As `drive`, on an asynchronous connection."""
    with translated():
        if not transaction:
            return await _drive_async(make_plan(), connection, statements, prepare)
        try:
            async with connection.transaction():
                return await _drive_async(make_plan(), connection, statements, prepare)
        except Undo as undo:
            return undo.result  # type: ignore[no-any-return]  # the plan that raised it is a Plan[T]


def _drive(plan: Plan[T], connection: psycopg.Connection[Any], statements: Statements, prepare: bool | None) -> T:
    with connection.cursor(row_factory=tuple_row) as cursor:
        try:
            query = next(plan)
            while True:
                cursor.execute(statements[query.name], query.params, prepare=prepare)
                query = plan.send(cursor.fetchall() if cursor.description else [])
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


async def _drive_async(
    plan: Plan[T], connection: psycopg.AsyncConnection[Any], statements: Statements, prepare: bool | None
) -> T:
    async with connection.cursor(row_factory=tuple_row) as cursor:
        try:
            query = next(plan)
            while True:
                await cursor.execute(statements[query.name], query.params, prepare=prepare)
                query = plan.send(await cursor.fetchall() if cursor.description else [])
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
