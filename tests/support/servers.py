"""Finds the Postgres that tests run on: the DSN given, a container, or the embedded server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from storage_postgres.embedded import start
from tests.support import docker

__all__ = ["DSN_VARIABLE", "Server", "find_server"]

DSN_VARIABLE: Final = "DURABLE_TEST_DSN"


@dataclass(frozen=True, slots=True)
class Server:
    """A server on which this run may make databases and roles."""

    maintenance_dsn: str
    origin: str
    stop: Callable[[], None]

    def dsn(self, dbname: str) -> str:
        return make_conninfo(self.maintenance_dsn, dbname=dbname)


def find_server() -> Server:
    """The first of: the server of DURABLE_TEST_DSN, Docker if its engine answers within a second, the embedded one."""
    given = os.environ.get(DSN_VARIABLE)
    if given:
        _refuse_without_rights(given)
        return Server(given, DSN_VARIABLE, _leave)
    if docker.engine_answers():
        return Server(*_in_docker())
    embedded = start(_embedded_root(), durable=False)
    return Server(embedded.dsn("postgres"), "embedded", embedded.release)


def _in_docker() -> tuple[str, str, Callable[[], None]]:
    dsn, stop = docker.start_container()
    return dsn, "docker", stop


def _leave() -> None:
    """The server was there before, and stays."""


def _embedded_root() -> Path:
    """One directory per user, kept from run to run and shared by the workers of one."""
    shared = Path("/var/tmp")
    base = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    return base / f"durable-tests-{os.geteuid()}"


def _refuse_without_rights(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute("select rolsuper from pg_catalog.pg_roles where rolname = current_user").fetchone()
    if row is None or not row[0]:
        pytest.exit(f"the role of {DSN_VARIABLE} must be a superuser: tests make databases and roles, and end backends")
