"""Where the tables are: schemas of any name, of other versions or not there, and servers that do not answer."""

from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from durable import (
    ConfigurationError,
    Durable,
    SchemaNotInstalled,
    SchemaTooNew,
    SchemaTooOld,
    StorageError,
    StorageUnavailable,
)
from storage_postgres import PostgresStorage
from storage_postgres.migrate import latest_version
from storage_postgres.statements import render

from .place import PATIENCE, PostgresPlace, running


def app_at(dsn: str, schema: str, **options: Any) -> Durable:
    return Durable(storage=PostgresStorage(dsn, schema=schema, min_size=1, max_size=1), poll_interval="50ms", **options)


@pytest.mark.parametrize(
    "name", ['we"ird Schéma-1', 'a"; drop table t; --', "select", "a/*schema*/b", "x" * 63, "ü" * 31, "a b"]
)
async def test_everything_works_in_a_schema_of_any_name(
    postgres_dsn: str, postgres_control: psycopg.Connection[Any], name: str
) -> None:
    app = app_at(postgres_dsn, name, migrate=True)

    @app.task
    async def work(n: int) -> int:
        return n

    try:
        async with running(app):
            assert await (await work.enqueue(5)).result(PATIENCE) == 5
        row = postgres_control.execute(
            "select count(*) from pg_catalog.pg_tables where schemaname = %s and tablename = 'executions'", [name]
        ).fetchone()
        assert row == (1,)
    finally:
        postgres_control.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(name)))


@pytest.mark.parametrize("name", ["", "%(id)s", "a\x00b", "x" * 64, "ü" * 32, "pg_catalog", "pg_mine"])
def test_names_that_postgres_would_change_or_keeps_for_itself_are_refused(postgres_dsn: str, name: str) -> None:
    with pytest.raises(ConfigurationError, match="schema"):
        PostgresStorage(postgres_dsn, schema=name)


async def test_a_schema_that_is_not_there(postgres_dsn: str) -> None:
    app = app_at(postgres_dsn, "nobody_made_this")
    with pytest.raises(SchemaNotInstalled, match=r"nobody_made_this.*durable migrate"):
        await app.open()
    with pytest.raises(SchemaNotInstalled), app.client():
        pass


@pytest.mark.parametrize(("change", "error"), [(1, SchemaTooNew), (-1, SchemaTooOld)])
async def test_a_schema_of_another_version(postgres: PostgresPlace, change: int, error: type[Exception]) -> None:
    postgres.control.execute(render("delete from /*schema*/migrations", postgres.schema))
    postgres.control.execute(
        render("insert into /*schema*/migrations values (%s, now())", postgres.schema), [latest_version() + change]
    )
    with pytest.raises(error, match=str(latest_version() + change)):
        await postgres.app().open()
    postgres.is_spoiled = True


async def test_a_schema_without_rights(postgres: PostgresPlace) -> None:
    app = postgres.app()

    @app.task
    async def work() -> None: ...

    async with app:
        postgres.control.execute(render("alter table /*schema*/executions rename to moved", postgres.schema))
        with pytest.raises(SchemaNotInstalled):
            await work.enqueue()
        postgres.control.execute(render("alter table /*schema*/moved rename to executions", postgres.schema))
        await work.enqueue()
    assert postgres.count() == 1


@pytest.mark.parametrize(
    ("dsn", "error"),
    [
        ("postgresql://me:hunter2@127.0.0.1:1/x", StorageUnavailable),
        ("host=/nowhere user=me password=hunter2", StorageUnavailable),
        ("postgresql://me:hunter2@[", ConfigurationError),
        ("postgresql://me:hunter2@h/x?no_such_option=1", ConfigurationError),
        ("nonsense", ConfigurationError),
    ],
)
async def test_servers_that_cannot_be_reached(dsn: str, error: type[Exception]) -> None:
    app = app_at(dsn, "durable")
    with pytest.raises(error) as caught:
        await app.open()
    assert "hunter2" not in str(caught.value)
    with pytest.raises(error) as caught, app.client():
        pass
    assert "hunter2" not in str(caught.value)


async def test_a_database_that_does_not_exist_is_named(postgres_dsn: str) -> None:
    with pytest.raises(StorageError, match="nobody_made_this"):
        await app_at(make_conninfo(postgres_dsn, dbname="nobody_made_this"), "durable").open()


def test_a_scheme_that_nobody_serves_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigurationError, match="no storage for DSNs of the form mysql") as caught:
        _ = Durable("mysql://me:hunter2@host/db").storage
    assert "hunter2" not in str(caught.value)
