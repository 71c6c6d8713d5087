"""Hints over LISTEN and NOTIFY: they reach listeners of the same schema, and a lost connection is told and mended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import psycopg
import pytest
import pytest_asyncio
from psycopg.conninfo import make_conninfo

from durable.storage import Hint
from storage_postgres import PostgresStorage, listen
from storage_postgres.listen import channel_of
from storage_postgres.migrate import migrate
from tests.support.locks import PATIENCE
from tests.support.subject import open_storage

RECONNECTED: Final = Hint("reconnected", "")
READY: Final = Hint("ready", "default")


class Ear:
    """One listener, hint by hint."""

    def __init__(self, hints: AsyncIterator[Hint]) -> None:
        self._hints = hints

    async def hear(self) -> Hint:
        async with asyncio.timeout(PATIENCE):
            return await anext(self._hints)


class Listener:
    """A storage whose listening connection can be told from others by its name."""

    def __init__(self, dsn: str, schema: str, control: psycopg.AsyncConnection[Any]) -> None:
        self.name = f"listener of {schema}"
        self.storage = PostgresStorage(
            make_conninfo(dsn, application_name=self.name), schema=schema, min_size=0, max_size=1
        )
        self._control = control

    @asynccontextmanager
    async def listening(self, teller: str = "") -> AsyncIterator[Ear]:
        async with aclosing(self.storage.listen(teller=teller)) as hints:  # type: ignore[type-var]
            ear = Ear(hints)
            assert await ear.hear() == RECONNECTED
            yield ear

    async def backends(self, last_query: str) -> list[int]:
        """The listening connections of this name whose last query starts so."""
        cursor = await self._control.execute(
            "select pid from pg_catalog.pg_stat_activity where application_name = %s and query like %s",
            [self.name, f"{last_query}%"],
        )
        return [pid for (pid,) in await cursor.fetchall()]

    async def until(self, is_so: Callable[[list[int]], bool], last_query: str) -> list[int]:
        async with asyncio.timeout(PATIENCE):
            while not is_so(found := await self.backends(last_query)):
                pass
        return found

    async def kill(self) -> None:
        (pid,) = await self.backends("listen")
        await self._control.execute("select pg_catalog.pg_terminate_backend(%s)", [pid])
        await self.until(lambda pids: pid not in pids, "listen")


@pytest_asyncio.fixture
async def control(postgres_dsn: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        yield connection


@pytest_asyncio.fixture
async def listener(
    postgres_dsn: str, empty_schema: str, control: psycopg.AsyncConnection[Any]
) -> AsyncIterator[Listener]:
    listener = Listener(postgres_dsn, empty_schema, control)
    async with open_storage(listener.storage):
        yield listener


async def test_a_hint_reaches_a_listener_of_another_process(
    listener: Listener, postgres_storage: PostgresStorage
) -> None:
    async with listener.listening() as ear:
        await postgres_storage.hint([Hint("finished", 'queue: "ö"')])

        assert await ear.hear() == Hint("finished", 'queue: "ö"')


@pytest.mark.parametrize("teller", ["me", ""])
async def test_a_listener_does_not_hear_what_it_has_told_itself(
    teller: str, listener: Listener, postgres_storage: PostgresStorage
) -> None:
    mine, others = Hint("ready", "mine:me:"), Hint("ready", "of others")
    async with listener.listening(teller) as ear:
        await postgres_storage.hint([mine], teller="me")
        await postgres_storage.hint([others], teller="somebody")

        assert await ear.hear() == (others if teller else mine)


@pytest.mark.parametrize("payload", ["", "word", "ready:default"])
async def test_what_is_no_hint_of_ours_is_passed_over(
    payload: str, listener: Listener, postgres_storage: PostgresStorage, control: psycopg.AsyncConnection[Any]
) -> None:
    async with listener.listening() as ear:
        await control.execute("select pg_catalog.pg_notify(%s, %s)", [channel_of(postgres_storage.schema), payload])
        await postgres_storage.hint([READY])

        assert await ear.hear() == READY


async def test_equal_hints_of_one_call_are_told_once(listener: Listener, postgres_storage: PostgresStorage) -> None:
    last = Hint("finished", "the last")
    async with listener.listening() as ear:
        await postgres_storage.hint([READY, READY, Hint("cancelled", "default"), READY])
        await postgres_storage.hint([last])
        heard = [await ear.hear()]
        while heard[-1] != last:
            heard.append(await ear.hear())

    assert sorted(heard[:-1]) == [Hint("cancelled", "default"), READY]


async def test_a_listener_does_not_hear_other_schemas(
    listener: Listener, postgres_storage: PostgresStorage, postgres_dsn: str, postgres_control: Any, schema: str
) -> None:
    migrate(postgres_control, f"{schema}_other")
    other = PostgresStorage(postgres_dsn, schema=f"{schema}_other", min_size=1, max_size=1)
    async with open_storage(other), listener.listening() as ear:
        await other.hint([Hint("ready", "elsewhere")])
        await postgres_storage.hint([READY])

        assert await ear.hear() == READY


async def test_a_listener_whose_backend_is_ended_comes_back_and_says_so(
    listener: Listener, postgres_storage: PostgresStorage
) -> None:
    async with listener.listening() as ear:
        await listener.kill()
        await postgres_storage.hint([Hint("ready", "lost in the gap")])
        assert await ear.hear() == RECONNECTED

        await postgres_storage.hint([READY])

        assert await ear.hear() == READY


async def test_a_listener_still_hears_after_it_has_asked_in_silence(
    listener: Listener, postgres_storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "_PROBE_AFTER", 0.05)
    async with listener.listening() as ear:
        hearing = asyncio.ensure_future(ear.hear())
        await listener.until(bool, "select 1")

        await postgres_storage.hint([READY])

        assert await hearing == READY


async def test_closing_the_listener_ends_its_connection(listener: Listener) -> None:
    async with listener.listening():
        assert len(await listener.backends("listen")) == 1

    await listener.until(lambda pids: not pids, "listen")


async def test_two_listeners_hear_the_same_hint(listener: Listener, postgres_storage: PostgresStorage) -> None:
    async with listener.listening() as one, listener.listening() as two:
        await postgres_storage.hint([READY])

        assert [await one.hear(), await two.hear()] == [READY, READY]
