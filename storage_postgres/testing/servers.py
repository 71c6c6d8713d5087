"""Finds the Postgres that tests run on: the DSN given, a container, or the embedded server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from psycopg.conninfo import make_conninfo

from storage_postgres.embedded import start
from storage_postgres.testing import docker

__all__ = ["DSN_VARIABLE", "Server", "find_server"]

DSN_VARIABLE: Final = "DURABLE_TEST_DSN"


@dataclass(frozen=True, slots=True)
class Server:
    """A server on which this run may make databases."""

    maintenance_dsn: str
    origin: str
    """`DURABLE_TEST_DSN`, `docker` or `embedded`."""
    stop: Callable[[], None]

    def dsn(self, dbname: str) -> str:
        return make_conninfo(self.maintenance_dsn, dbname=dbname)


def find_server() -> Server:
    """The first of: the server of DURABLE_TEST_DSN, Docker if its engine answers within a second, the embedded one.

    Docker counts only where testcontainers is installed. Raises EmbeddedError where the embedded one cannot be had.
    """
    given = os.environ.get(DSN_VARIABLE)
    if given:
        return Server(given, DSN_VARIABLE, _leave)
    if docker.is_usable():
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
    shared = Path("/var/tmp")  # noqa: S108 - the embedded server takes only a directory that is this user's own
    base = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    return base / f"durable-tests-{os.geteuid()}"
