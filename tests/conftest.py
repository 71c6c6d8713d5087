"""Fixtures of every test on Postgres: the server, a database per worker, a schema per test, storages on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql
from psycopg.conninfo import make_conninfo

from durable.testing import VirtualClock
from storage_postgres import PostgresStorage
from storage_postgres.migrate import migrate
from storage_postgres.testing import DSN_VARIABLE, Schemas, Server, find_server, own_database
from tests.support.bouncer import pytest_collection_modifyitems, pytest_configure
from tests.support.subject import PostgresSubject, open_storage, open_subject

__all__ = ["pytest_collection_modifyitems", "pytest_configure"]

ROLE_PASSWORD: Final = "a role's password"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    server = find_server()
    if server.origin == DSN_VARIABLE:
        refuse_without_rights(server)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_dsn(postgres_server: Server) -> Iterator[str]:
    """A database of this worker's own."""
    with own_database(postgres_server) as dsn:
        yield dsn


def refuse_without_rights(server: Server) -> None:
    with psycopg.connect(server.maintenance_dsn, autocommit=True) as connection:
        row = connection.execute("select rolsuper from pg_catalog.pg_roles where rolname = current_user").fetchone()
    if row is None or not row[0]:
        pytest.exit(f"the role of {DSN_VARIABLE} must be a superuser: tests make databases and roles, and end backends")


@pytest.fixture(scope="session")
def durable_postgres_dsn(postgres_dsn: str) -> str:
    """The fixtures for users share the database of the worker."""
    return postgres_dsn


@pytest.fixture(scope="session")
def postgres_control(postgres_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A blocking connection in autocommit for what tests do beside the library."""
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def schema_names() -> Iterator[str]:
    return (f"test_{number}" for number in count(1))


@pytest.fixture
def schema(schema_names: Iterator[str]) -> str:
    """The name of a schema that is not there yet; it goes with the database."""
    return next(schema_names)


@pytest.fixture
def migrated_schema(postgres_control: psycopg.Connection[Any], schema: str) -> str:
    migrate(postgres_control, schema)
    return schema


@pytest.fixture
def role(postgres_control: psycopg.Connection[Any]) -> Iterator[str]:
    """A role that may log in and nothing else."""
    name = f"durable_test_{uuid4().hex[:12]}"
    postgres_control.execute(
        sql.SQL("create role {} login password {}").format(sql.Identifier(name), sql.Literal(ROLE_PASSWORD))
    )
    yield name
    postgres_control.execute(sql.SQL("drop owned by {}").format(sql.Identifier(name)))
    postgres_control.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


@pytest.fixture
def role_dsn(postgres_dsn: str, role: str) -> str:
    return make_conninfo(postgres_dsn, user=role, password=ROLE_PASSWORD)


@pytest.fixture(scope="session")
def schemas(postgres_control: psycopg.Connection[Any]) -> Schemas:
    return Schemas(postgres_control)


@pytest.fixture
def empty_schema(schemas: Schemas) -> Iterator[str]:
    """Migrated and empty; other tests have used it before. For those that change no table and no right."""
    with schemas.lend() as name:
        yield name


@pytest.fixture
def still_schema(schemas: Schemas) -> Iterator[str]:
    """As empty_schema, and its clock stands at the moment at which every virtual clock starts."""
    with schemas.lend(at=VirtualClock().now()) as name:
        yield name


@pytest_asyncio.fixture
async def postgres_storage(postgres_dsn: str, empty_schema: str) -> AsyncIterator[PostgresStorage]:
    """Open in both colours, on a fresh schema, with the server's own clock."""
    async with open_storage(PostgresStorage(postgres_dsn, schema=empty_schema, min_size=1, max_size=4)) as storage:
        yield storage


@pytest_asyncio.fixture
async def postgres_subject(postgres_dsn: str, still_schema: str) -> AsyncIterator[PostgresSubject]:
    """What the contract of a storage runs on: an empty schema whose clock stands still."""
    async with open_subject(postgres_dsn, still_schema) as subject:
        yield subject
