"""Migrations: complete, repeatable, safe at once and killed, under any name; and what `open` says of other schemas."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import psycopg
import pytest
from psycopg import errors, sql

from durable.errors import (
    ConfigurationError,
    PermissionDenied,
    SchemaNotInstalled,
    SchemaTooNew,
    SchemaTooOld,
)
from durable.testing import Maker
from storage_postgres import PostgresStorage
from storage_postgres import migrate as module
from storage_postgres.migrate import latest_version, migrate
from storage_postgres.statements import render

Control = psycopg.Connection[Any]
WEIRD_NAMES: Final = ['we"ird Schéma-1', "Select", "a.b", "a;b--", "{}", "$1", "s" * 63, "数据库"]

_CATALOGUE: Final = (
    # Everything in a schema that a migration makes, as text without the schema's name.
    "select 'column', table_name || '.' || column_name, data_type || is_nullable || coalesce(column_default, '')"
    " from information_schema.columns where table_schema = %(schema)s",
    "select 'constraint', c.conname, pg_catalog.pg_get_constraintdef(c.oid) from pg_catalog.pg_constraint as c"
    " join pg_catalog.pg_namespace as n on n.oid = c.connamespace where n.nspname = %(schema)s",
    "select 'index', indexname, indexdef from pg_catalog.pg_indexes where schemaname = %(schema)s",
    "select 'function', p.proname, pg_catalog.pg_get_functiondef(p.oid) from pg_catalog.pg_proc as p"
    " join pg_catalog.pg_namespace as n on n.oid = p.pronamespace where n.nspname = %(schema)s",
    "select 'options', c.relname, c.reloptions::text from pg_catalog.pg_class as c"
    " join pg_catalog.pg_namespace as n on n.oid = c.relnamespace where n.nspname = %(schema)s and c.relkind = 'r'",
)


def catalogue(control: Control, schema: str) -> set[tuple[str, str, str]]:
    rows = [row for query in _CATALOGUE for row in control.execute(query.replace("%%", "%"), {"schema": schema})]
    return {(kind, name, str(text).replace(schema, "S")) for kind, name, text in rows}


def versions(control: Control, schema: str) -> list[int]:
    rows = control.execute(render("select version from /*schema*/migrations order by version", schema)).fetchall()
    return [version for (version,) in rows]


def set_version(control: Control, schema: str, version: int) -> None:
    control.execute(render("delete from /*schema*/migrations where version >= %s", schema), [version])
    control.execute(render("insert into /*schema*/migrations values (%s, now())", schema), [version])


@pytest.fixture
def storage(postgres_dsn: str, schema: str) -> PostgresStorage:
    return PostgresStorage(postgres_dsn, schema=schema)


def test_applies_everything_once(storage: PostgresStorage, postgres_control: Control, schema: str) -> None:
    applied = storage.migrate()

    assert [int(name[:4]) for name in applied] == versions(postgres_control, schema)
    assert versions(postgres_control, schema)[-1] == latest_version()
    assert storage.migrate() == []


def test_the_files_alone_give_the_same_schema(postgres_control: Control, schema: str) -> None:
    """Nothing that a migration makes comes from the code around it."""
    migrate(postgres_control, schema)
    by_hand = f"{schema}_by_hand"
    postgres_control.execute(sql.SQL("create schema {}").format(sql.Identifier(by_hand)))
    for _, _, text in module._migrations():
        postgres_control.execute(render(text, by_hand))

    made = {entry for entry in catalogue(postgres_control, schema) if not entry[1].startswith("migrations")}

    assert made == catalogue(postgres_control, by_hand)
    assert len(made) > 50


def test_two_at_once_apply_everything_between_them(postgres_dsn: str, postgres_control: Control, schema: str) -> None:
    together = threading.Barrier(4)

    def migrate_together(_: int) -> list[str]:
        with psycopg.connect(postgres_dsn, autocommit=True) as connection:
            together.wait()
            return migrate(connection, schema)

    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(migrate_together, range(4)))

    assert sorted(name for names in applied for name in names) == [name for _, name, _ in module._migrations()]
    assert versions(postgres_control, schema) == [number for number, _, _ in module._migrations()]


KILL: Final = "select pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid());"


@pytest.fixture
def with_migrations(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the migrations by these texts, numbered from 1."""

    def replace(*texts: str) -> None:
        numbered = [(number, f"{number:04}_made_up.sql", text) for number, text in enumerate(texts, 1)]
        monkeypatch.setattr(module, "_migrations", lambda: numbered)

    return replace


FIRST: Final = "create table /*schema*/first (id integer);"
SECOND: Final = "create table /*schema*/second (id integer);"


def migrate_and_die(dsn: str, schema: str) -> None:
    with pytest.raises(errors.AdminShutdown), psycopg.connect(dsn, autocommit=True) as connection:
        migrate(connection, schema)


def tables(control: Control, schema: str) -> list[str]:
    rows = control.execute("select tablename from pg_catalog.pg_tables where schemaname = %s", [schema]).fetchall()
    return sorted(name for (name,) in rows)


def test_killed_between_two_it_keeps_the_first_and_goes_on_with_the_second(
    with_migrations: Callable[..., None], postgres_dsn: str, postgres_control: Control, schema: str
) -> None:
    with_migrations(FIRST, KILL)
    migrate_and_die(postgres_dsn, schema)
    assert versions(postgres_control, schema) == [1]

    with_migrations(FIRST, SECOND)

    assert migrate(postgres_control, schema) == ["0002_made_up.sql"]
    assert tables(postgres_control, schema) == ["first", "migrations", "second"]


def test_killed_inside_one_it_leaves_nothing_of_it(
    with_migrations: Callable[..., None], postgres_dsn: str, postgres_control: Control, schema: str
) -> None:
    with_migrations(FIRST, SECOND + KILL)
    migrate_and_die(postgres_dsn, schema)
    assert tables(postgres_control, schema) == ["first", "migrations"]

    with_migrations(FIRST, SECOND)

    assert migrate(postgres_control, schema) == ["0002_made_up.sql"]


def test_waits_for_traffic_without_queueing_before_it(
    with_migrations: Callable[..., None], postgres_dsn: str, postgres_control: Control, schema: str
) -> None:
    """A migration that cannot get its lock gives way, so that reads behind it go on, and tries again."""
    with_migrations(FIRST)
    migrate(postgres_control, schema)
    with_migrations(FIRST, "alter table /*schema*/first add column name text;")
    attempts = threading.Semaphore(0)

    class Counting(psycopg.Connection[Any]):
        def transaction(self, *args: Any, **options: Any) -> Any:
            attempts.release()
            return super().transaction(*args, **options)

    with (
        Counting.connect(postgres_dsn, autocommit=True) as connection,
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(postgres_dsn) as traffic,
    ):
        traffic.execute(render("select * from /*schema*/first", schema))
        migrating = pool.submit(migrate, connection, schema)
        for _ in range(3):  # one for the migration that is there, two for the one that waits
            assert attempts.acquire(timeout=30)
        traffic.commit()
        assert migrating.result(timeout=30) == ["0002_made_up.sql"]


@pytest.mark.parametrize("name", WEIRD_NAMES)
def test_any_schema_name_works(name: str, postgres_dsn: str, postgres_control: Control, schema: str) -> None:
    """Through every statement of a short life, not only the migration."""
    name = name if len(name) == 63 else f"{schema} {name}"
    storage = PostgresStorage(postgres_dsn, schema=name, max_size=1)
    storage.migrate()
    storage.open_blocking()
    try:
        (enqueued,) = storage.enqueue([Maker().row()]).run()
        (turn,) = storage.claim(
            executor_id="executor-a", queues=["default"], task_names=["task"], limit=10, lease=15
        ).run()
    finally:
        storage.close_blocking()

    assert turn.id == enqueued.id
    assert "executions" in tables(postgres_control, name)


@pytest.mark.parametrize("name", ["", "pg_mine", "s" * 64, "é" * 32, "a\0b", "100%"])
def test_a_schema_name_that_postgres_or_the_driver_would_change_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="schema"):
        PostgresStorage("postgresql://nowhere", schema=name)


async def open_and_close(storage: PostgresStorage) -> None:
    await storage.open()
    await storage.close()


async def open_and_close_blocking(storage: PostgresStorage) -> None:
    storage.open_blocking()
    storage.close_blocking()


OPENINGS: Final[Sequence[Callable[[PostgresStorage], Any]]] = [open_and_close, open_and_close_blocking]


@pytest.fixture(params=OPENINGS, ids=lambda opening: opening.__name__)
def opening(request: pytest.FixtureRequest) -> Callable[[PostgresStorage], Any]:
    return request.param  # type: ignore[no-any-return]


async def test_open_refuses_a_schema_that_is_not_there(
    opening: Callable[[PostgresStorage], Any], storage: PostgresStorage, schema: str
) -> None:
    with pytest.raises(SchemaNotInstalled, match="durable migrate") as raised:
        await opening(storage)

    assert raised.value.schema == schema


async def test_open_refuses_a_schema_without_our_tables(
    opening: Callable[[PostgresStorage], Any], storage: PostgresStorage, postgres_control: Control, schema: str
) -> None:
    postgres_control.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))

    with pytest.raises(SchemaNotInstalled):
        await opening(storage)


async def test_open_refuses_a_schema_that_is_too_old(
    opening: Callable[[PostgresStorage], Any], storage: PostgresStorage, postgres_control: Control, migrated_schema: str
) -> None:
    set_version(postgres_control, migrated_schema, latest_version() - 1)

    with pytest.raises(SchemaTooOld, match="durable migrate") as raised:
        await opening(storage)

    assert (raised.value.need, raised.value.have) == (latest_version(), latest_version() - 1)


async def test_open_refuses_a_schema_that_is_too_new(
    opening: Callable[[PostgresStorage], Any], storage: PostgresStorage, postgres_control: Control, migrated_schema: str
) -> None:
    set_version(postgres_control, migrated_schema, latest_version() + 1)

    with pytest.raises(SchemaTooNew, match="upgrade") as raised:
        await opening(storage)

    assert (raised.value.know, raised.value.have) == (latest_version(), latest_version() + 1)


async def test_open_says_when_the_role_may_not_read_the_schema(
    opening: Callable[[PostgresStorage], Any], postgres_dsn: str, role_dsn: str, migrated_schema: str
) -> None:
    with pytest.raises(PermissionDenied):
        await opening(PostgresStorage(role_dsn, schema=migrated_schema))


def test_migrate_says_when_the_role_may_not_create_a_schema(role_dsn: str, schema: str) -> None:
    with pytest.raises(PermissionDenied):
        PostgresStorage(role_dsn, schema=schema).migrate()


def test_a_newer_schema_is_left_alone(
    storage: PostgresStorage, postgres_control: Control, migrated_schema: str
) -> None:
    postgres_control.execute(
        render("insert into /*schema*/migrations values (%s, pg_catalog.now())", migrated_schema),
        [latest_version() + 1],
    )
    before = catalogue(postgres_control, migrated_schema)

    assert storage.migrate() == []
    assert catalogue(postgres_control, migrated_schema) == before
