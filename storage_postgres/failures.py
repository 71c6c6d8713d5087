"""Translate what psycopg raises into durable's errors, once, and tell which of it is worth another try."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from typing import Final

import psycopg
from psycopg import errors
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from durable.errors import (
    DurableError,
    IdempotencyConflict,
    NotOpen,
    PermissionDenied,
    RowsHeld,
    SchemaNotInstalled,
    SleepingIdConflict,
    StorageError,
    StorageUnavailable,
)

__all__ = ["is_connection_spent", "is_id_taken", "is_transient", "translated"]

_TRANSIENT: Final = (
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.LockNotAvailable,
    errors.ReadOnlySqlTransaction,
    errors.DiskFull,
    errors.OutOfMemory,
    errors.TooManyConnections,
    errors.CannotConnectNow,
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.IdleInTransactionSessionTimeout,
    errors.QueryCanceled,
    errors.InvalidSqlStatementName,  # what the session had prepared is gone; another one prepares it anew
)
_SPENT: Final = (
    errors.ReadOnlySqlTransaction,
    errors.AdminShutdown,
    errors.CannotConnectNow,
    errors.InvalidSqlStatementName,
)
_KEY: Final = re.compile(r"Key \(task_name, \w+\)=\((.*?), (.*)\) already exists", re.DOTALL)


def is_transient(error: BaseException) -> bool:
    """True when the same statement may succeed later on this or another connection.

    Most lost connections carry no SQLSTATE at all, so an OperationalError without one counts.
    """
    if isinstance(error, StorageUnavailable):
        return True
    if isinstance(error, (PoolTimeout, TooManyRequests)):
        return True
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        return True
    return isinstance(error, _TRANSIENT)


def is_connection_spent(error: BaseException) -> bool:
    """True when the connection must not be used again.

    The server behind it is a standby, or became read-only; or the session has lost what it had prepared.
    """
    cause = error.__cause__ if isinstance(error, StorageError) else error
    return isinstance(cause, _SPENT)


def is_id_taken(error: BaseException) -> bool:
    """True when an execution was not stored because its id is there."""
    cause = error.__cause__ if isinstance(error, StorageError) else error
    return isinstance(cause, errors.UniqueViolation) and cause.diag.constraint_name == "executions_pkey"


class _Translated:
    """Not a generator: each statement enters it."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, PoolClosed):
            raise NotOpen("the storage is not open; use it inside `async with app:`") from error
        if isinstance(error, (psycopg.Error, PoolTimeout, TooManyRequests)):
            raise _translate(error) from error


_TRANSLATED: Final = _Translated()


def translated() -> AbstractContextManager[None]:
    """Raise durable's errors for psycopg's; the original stays the cause. The DSN is never part of the text."""
    return _TRANSLATED


def _translate(error: Exception) -> DurableError:
    if isinstance(error, errors.LockNotAvailable):
        return RowsHeld(f"another transaction holds what is to be written: {_first_line(error)}")
    if is_transient(error):
        return StorageUnavailable(f"the database cannot serve just now: {_first_line(error)}")
    if isinstance(error, errors.UniqueViolation) and error.diag.constraint_name == "executions_sleeping":
        match = _KEY.search(error.diag.message_detail or "")
        return SleepingIdConflict(*(match.groups() if match else ("?", "?")))
    if isinstance(error, errors.UniqueViolation) and error.diag.constraint_name == "executions_idempotency":
        match = _KEY.search(error.diag.message_detail or "")
        task, key = match.groups() if match else ("?", "?")
        return IdempotencyConflict(task, key, "that was there before")
    if isinstance(error, errors.InsufficientPrivilege):
        return PermissionDenied(f"the database role lacks a right: {_first_line(error)}")
    if isinstance(error, (errors.UndefinedTable, errors.InvalidSchemaName, errors.UndefinedFunction)):
        return SchemaNotInstalled("of this app")
    return StorageError(_first_line(error))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
