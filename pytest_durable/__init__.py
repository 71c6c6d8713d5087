"""The pytest plugin: storages for tests as fixtures, found and made at their first use.

It stands beside the package `durable` and not in it, because pytest imports every installed plugin at its start, and
`durable` with all that it needs takes longer than most test runs without it should.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from durable.testing import VirtualStorage

__all__ = ["durable_memory", "durable_postgres", "durable_postgres_dsn", "durable_postgres_schemas"]


@pytest.fixture
def durable_memory() -> VirtualStorage:
    """A fresh storage in memory with a virtual clock, for `app_under_test(app, storage=…)`."""
    memory: VirtualStorage = _testing().VirtualMemory()
    return memory


@pytest.fixture
def durable_postgres(durable_postgres_schemas: Any) -> Iterator[VirtualStorage]:
    """An empty schema on Postgres with a virtual clock."""
    with durable_postgres_schemas.virtual(_testing().VirtualClock().now()) as storage:
        yield storage


@pytest.fixture(scope="session")
def durable_postgres_schemas(durable_postgres_dsn: str) -> Iterator[Any]:
    """Schemas that one test after another is lent: migrated once, emptied in between, gone with the database."""
    servers: Any = import_module("storage_postgres.testing")
    with servers.LentSchemas.open(durable_postgres_dsn) as schemas:
        yield schemas


@pytest.fixture(scope="session")
def durable_postgres_dsn() -> Iterator[str]:
    """A database for this run, or for this worker of it, dropped at the end; override it to name one of your own.

    On the server of DURABLE_TEST_DSN, whose role must be allowed to make databases; else in a container, where Docker
    answers and testcontainers is installed; else on the embedded server, which the extra `embedded` brings.
    """
    servers: Any = import_module("storage_postgres.testing")
    server = servers.find_server()
    try:
        with servers.own_database(server) as dsn:
            yield dsn
    finally:
        server.stop()


def _testing() -> Any:
    return import_module("durable.testing")
