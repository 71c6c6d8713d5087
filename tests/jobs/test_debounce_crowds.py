"""Debounce: many senders, several executors, duplicates, and senders that hold a transaction open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from durable import ConfigurationError, Durable
from durable.jobs import Debounce, DebounceContext, DuplicateEventError, ShownStatus
from durable.testing import VirtualStorage, app_under_test
from tests.flow.place import PATIENCE, Place, PostgresPlace, running, soon
from tests.support.locks import until_waiting

from .stage import Flush, Gate, appended, flush_of, gathering, times


class Crew:
    """Several apps on one place, each with a Debounce of the same name; they note their flushes in one list."""

    def __init__(self, place: Place, **options: Any) -> None:
        self._place = place
        self._options = options
        self._changed = asyncio.Event()
        self.flushes: list[Flush] = []
        self.running = 0
        self.most_running = 0

    def member(self) -> tuple[Durable, Debounce[list[int], int]]:
        app = self._place.app()

        @app.debounce(event=int, state=list[int], reducer=appended, **{"flush_after": "1h", **self._options})
        async def batcher(ctx: DebounceContext[list[int], int]) -> None:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            await app.storage.now()
            self.flushes.append(flush_of(ctx))
            self.running -= 1
            self._changed.set()

        return app, batcher

    @asynccontextmanager
    async def members(self, *, executors: int, clients: int) -> AsyncIterator[list[Debounce[list[int], int]]]:
        """The batchers of the clients."""
        async with AsyncExitStack() as stack:
            for _ in range(executors):
                await stack.enter_async_context(running(self.member()[0]))
            members = [self.member() for _ in range(clients)]
            for app, _ in members:
                await stack.enter_async_context(app)
            yield [batcher for _, batcher in members]

    async def flushed(self, count: int) -> list[int]:
        """The events of all flushes, as soon as there are so many."""
        async with asyncio.timeout(PATIENCE):
            while sum(len(flush.events) for flush in self.flushes) < count:
                self._changed.clear()
                await self._changed.wait()
        return [event for flush in self.flushes for event in flush.events]


async def test_deb_13_each_of_500_concurrent_events_is_in_exactly_one_batch(place: Place) -> None:
    crew = Crew(place, max_events=50)
    async with crew.members(executors=3, clients=10) as batchers:
        await asyncio.gather(*(batchers[event % 10].add("k", event) for event in range(500)))
        assert sorted(await crew.flushed(500)) == list(range(500))
        assert [len(flush.events) for flush in crew.flushes] == [50] * 10
        assert all(flush.state == flush.events and flush.reason == "max_events" for flush in crew.flushes)
        assert len({flush.batch_id for flush in crew.flushes}) == 10
        assert crew.most_running == 1
        assert (await batchers[0].status("k")).event_count == 0


async def test_deb_14_two_events_that_are_both_the_third_give_one_flush(place: Place) -> None:
    crew = Crew(place, max_events=3)
    async with crew.members(executors=2, clients=2) as (one, other):
        for round_ in range(10):
            key = f"k{round_}"
            for event in (1, 2):
                await one.add(key, event)
            crew.flushes.clear()
            await asyncio.gather(one.add(key, 3), other.add(key, 4))
            await crew.flushed(3)
            async with asyncio.timeout(PATIENCE):
                while (await one.status(key)).is_turn_running:
                    pass
            left = await one.events(key)
            assert sorted(crew.flushes[0].events + left) == [1, 2, 3, 4]
            assert len(crew.flushes) == len(left) == 1


async def test_deb_20_an_event_id_is_accepted_once_within_its_window(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = gathering(app, dedupe_window="1h")
    async with app_under_test(app, storage=storage) as kit:
        assert (await batcher.add("k", 1, event_id="a")).duplicate is False
        again = await batcher.add("k", 2, event_id="a")
        assert (again.duplicate, again.created, again.event_count) == (True, False, 1)
        assert again.will_flush_at == kit.clock.now() + timedelta(seconds=10)
        await kit.clock.advance("10s")
        with pytest.raises(DuplicateEventError, match=r"debounce:batcher:k.*'a'") as caught:
            await batcher.add("k", 3, event_id="a", on_duplicate="raise")
        assert (caught.value.instance_id, caught.value.event_id) == ("debounce:batcher:k", "a")
        assert (await batcher.status("k")).status is ShownStatus.IDLE
        assert (await batcher.add("other", 4, event_id="a")).duplicate is False
        await kit.clock.advance(timedelta(hours=1))
        assert (await batcher.add("k", 5, event_id="a")).duplicate is False
        await kit.clock.advance("10s")
        assert [flush.events for flush in flushes] == [[1], [4], [5]]


async def test_deb_20_events_without_ids_are_never_duplicates(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = gathering(app)
    async with app_under_test(app, storage=storage) as kit:
        added = [await batcher.add("k", 1, on_duplicate="raise") for _ in range(3)]
        assert [(one.event_count, one.duplicate) for one in added] == [(1, False), (2, False), (3, False)]
        await kit.clock.advance("10s")
        assert flushes[0].events == [1, 1, 1]


async def test_deb_20_of_concurrent_events_with_one_id_one_wins(place: Place) -> None:
    crew = Crew(place, max_events=1)
    async with crew.members(executors=1, clients=2) as (one, other):
        for round_ in range(20):
            crew.flushes.clear()
            added = await asyncio.gather(one.add("k", 1, event_id=str(round_)), other.add("k", 2, event_id=str(round_)))
            assert sorted(result.duplicate for result in added) == [False, True]
            (event,) = await crew.flushed(1)
            assert event == [1, 2][[result.duplicate for result in added].index(False)]
        assert (await one.status("k")).event_count == 0


@pytest.fixture
async def connection(postgres: PostgresPlace) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(postgres.dsn) as opened:
        yield opened


async def test_deb_12_an_event_whose_sender_commits_during_the_commit_of_a_flush_is_in_the_next_batch(
    postgres: PostgresPlace, connection: psycopg.AsyncConnection[Any]
) -> None:
    app = postgres.app()
    flushes: list[Flush] = []
    gate = Gate()

    @app.debounce(event=int, state=list[int], reducer=appended, flush_after="1h", max_events=1)
    async def batcher(ctx: DebounceContext[list[int], int]) -> None:
        flushes.append(flush_of(ctx))
        if ctx.events == (1,):
            await gate.hold()

    async with running(app) as executor:
        await batcher.add("k", 1)
        await gate.reached()
        added = await batcher.add("k", 2, connection=connection)
        assert (added.created, added.event_count) == (True, 1)
        gate.open()
        # The handler has returned and its commit waits for the row that the sender holds.
        async with asyncio.timeout(PATIENCE):
            while executor.running:
                await app.storage.now()
        assert (await batcher.status("k")).is_turn_running
        await connection.commit()
        await soon(batcher.add("k", 3, wait=True))
        assert [flush.events for flush in flushes] == [[1], [2], [3]]
        assert executor.refused_count == 0


async def test_deb_12_an_event_whose_sender_rolls_back_is_in_no_batch(
    postgres: PostgresPlace, connection: psycopg.AsyncConnection[Any]
) -> None:
    app = postgres.app()
    batcher, flushes = gathering(app, max_events=1)
    async with running(app):
        for key in ("new", "k"):
            await batcher.add(key, 1, connection=connection)
            assert (await batcher.status("new")).status is ShownStatus.NOT_FOUND
            await connection.rollback()
            await soon(batcher.add("k", 2, wait=True))
        assert [flush.events for flush in flushes] == [[2], [2]]


async def test_deb_15_events_have_the_order_in_which_their_senders_held_the_job(
    postgres: PostgresPlace, connection: psycopg.AsyncConnection[Any]
) -> None:
    """No event gets a place before one that was committed earlier: the second sender waits for the first."""
    app = postgres.app()
    flushes: list[Flush] = []
    gate = Gate()

    @app.debounce(event=int, state=list[int], reducer=appended, flush_after="1h", max_events=2)
    async def batcher(ctx: DebounceContext[list[int], int]) -> None:
        flushes.append(flush_of(ctx))
        if len(flushes) == 1:
            await gate.hold()

    async with running(app):
        for event in (1, 2):
            await batcher.add("k", event)
        await gate.reached()
        await batcher.add("k", 3, connection=connection)
        later = asyncio.ensure_future(batcher.add("k", 4, wait=True))
        async with await psycopg.AsyncConnection.connect(postgres.dsn, autocommit=True) as looking:
            await until_waiting(looking, 1)
        gate.open()
        await connection.commit()
        assert (await soon(later)).event_count == 2
        assert times(flushes) == [([1, 2], "max_events"), ([3, 4], "max_events")]


async def test_a_call_that_waits_cannot_be_part_of_a_transaction(
    postgres: PostgresPlace, connection: psycopg.AsyncConnection[Any]
) -> None:
    app = postgres.app()
    batcher, _ = gathering(app)
    async with app:
        with pytest.raises(ConfigurationError, match="wait=True and connection="):
            await batcher.add("k", 1, wait=True, connection=connection)
        assert await app.jobs.count() == 0


def test_the_blocking_client_joins_a_transaction(postgres: PostgresPlace) -> None:
    app = postgres.app()
    batcher, _ = gathering(app)
    with app.client() as client, psycopg.connect(postgres.dsn) as connection:
        calls = client.job(batcher)
        for end, count in [(connection.rollback, 0), (connection.commit, 1)]:
            assert calls.add("k", 1, connection=connection).event_count == 1
            end()
            assert calls.status("k").event_count == count
        assert calls.clear("k", connection=connection).discarded_events == 1
        connection.rollback()
        assert calls.events("k") == [1]
