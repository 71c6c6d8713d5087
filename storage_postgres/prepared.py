"""Our statements on our own connections: prepared once under their name, run without a cursor.

A cursor is made for statements that come from anywhere: it reads the text anew, looks up whether it is prepared, under
which types, and tells of each answer what a caller might ask. That takes as long again as sending the statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import psycopg
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.abc import Transformer as Adapting
from psycopg.adapt import PyFormat, Transformer
from psycopg.generators import execute
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from storage_postgres.statements import Statements
from storage_postgres.waiting import WaitingConnection

__all__ = ["BlockingOwn", "Own", "Prepared", "Rows"]

Rows = list[tuple[Any, ...]]
_GOOD: Final = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)


class _Known:
    """One statement that the session has prepared."""

    __slots__ = ("called", "formats", "is_read", "parameters", "reading")

    def __init__(self, called: bytes, parameters: tuple[str, ...], reading: Adapting) -> None:
        self.called = called
        self.parameters = parameters
        self.formats = [PyFormat.TEXT] * len(parameters)
        self.reading = reading
        self.is_read = False
        """Whether `reading` has seen the columns, which stay the same."""


class Prepared:
    """What a session of ours has prepared. There is none behind a pooler, where each transaction has another session.

    Nothing of it runs in a pipeline, and psycopg prepares nothing beside it: a rollback would take away both.
    """

    def __init__(self, connection: Own | BlockingOwn, statements: Statements) -> None:
        self._connection = connection
        self._statements = statements
        self._known: dict[str, _Known] = {}

    def ask(self, name: str, params: Mapping[str, object]) -> PQGen[Rows]:
        """The rows of one statement, for the connection's `wait`. Raises psycopg.Error.

        Every parameter goes as text and without a type, so the cast in the statement says how it is read, and nothing
        is prepared anew for a smaller number or a NULL.
        """
        known = self._known.get(name)
        if known is None:
            known = yield from self._prepare(name)
        reading = known.reading
        values = reading.dump_sequence([params[parameter] for parameter in known.parameters], known.formats)
        pgconn = self._connection.pgconn
        pgconn.send_query_prepared(known.called, values)
        result = self._checked((yield from execute(pgconn)))
        reading.set_pgresult(result, set_loaders=not known.is_read)
        known.is_read = True
        rows = reading.load_rows(0, result.ntuples, tuple)
        reading.set_pgresult(None, set_loaders=False)  # it may be large
        return rows

    def _prepare(self, name: str) -> PQGen[_Known]:
        text, parameters = self._statements.numbered(name)
        pgconn, called = self._connection.pgconn, name.encode()
        pgconn.send_prepare(called, text)
        self._checked((yield from execute(pgconn)))
        known = self._known[name] = _Known(called, parameters, Transformer(self._connection))
        return known

    def _checked(self, results: list[PGresult]) -> PGresult:
        for result in results:
            if result.status not in _GOOD:
                raise errors.error_from_result(result, encoding=self._connection.info.encoding)
        return results[0]


class Own(WaitingConnection):
    """Of the pool for our statements."""

    prepared: Prepared | None = None


class BlockingOwn(psycopg.Connection[Any]):
    """Of the pool of the blocking colour, or of a thread's own."""

    prepared: Prepared | None = None
