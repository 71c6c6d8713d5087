"""A schema's clock that stands still: `clock_now()` reads a row that the test moves."""

from __future__ import annotations

from datetime import datetime
from importlib.resources import files
from typing import Any

import psycopg

from storage_postgres.statements import render

__all__ = ["move_clock", "stop_clock"]


def stop_clock(connection: psycopg.Connection[Any], schema: str, at: datetime) -> None:
    """Let the clock of a schema, which must be migrated and a test's own, stand at that moment from now on."""
    connection.execute(render(_text("stop_clock"), schema))
    move_clock(connection, schema, at)


def move_clock(connection: psycopg.Connection[Any], schema: str, at: datetime) -> None:
    """Let a stopped clock stand at another moment, later or earlier."""
    connection.execute(render(_text("move_clock"), schema), {"at": at})


def _text(name: str) -> str:
    return files("storage_postgres").joinpath("sql", "testing", f"{name}.sql").read_text(encoding="utf-8")
