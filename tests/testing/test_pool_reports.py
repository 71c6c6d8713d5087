"""Reports of pools under virtual time: what a user reads, and the event of each minute, from one of all executors."""

from __future__ import annotations

import asyncio

import pytest

from durable import Durable, LifecycleEvent, Retry, constant
from durable.testing import Kit, VirtualStorage, app_under_test

HOUR = 3600.0


class Seen:
    """A subscriber that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[LifecycleEvent] = []

    async def __call__(self, event: LifecycleEvent) -> None:
        self.events.append(event)


async def minute(kit: Kit) -> None:
    """A minute later, with what falls due then done, and what is then told delivered."""
    await kit.clock.advance("1m")
    await kit.drain()


async def test_a_report_has_what_stands_and_what_has_ended(app: Durable, storage: VirtualStorage) -> None:
    emails = app.pool("emails", max_parallelism=1)

    @emails.task(retry=Retry(3, constant("10s"), jitter=0))
    async def send(to: str) -> None:
        if to == "nobody":
            raise ValueError("no such address")

    @emails.task(name="never")
    async def never() -> None:
        raise AssertionError("it is not due")

    async with app_under_test(app, storage=storage) as kit:
        await emails.configure(max_parallelism=0)
        await send.enqueue_many(["a", "b", "nobody"])
        await never.enqueue(delay="2d")
        before = await emails.report()
        await kit.clock.advance("30s")
        await emails.configure(max_parallelism=1)
        await kit.drain()
        report = await emails.report(over="15m")
        with app.client() as client:
            assert await asyncio.to_thread(client.pool(emails).report, over="15m") == report
        await kit.clock.advance(HOUR)
        after = await emails.report(over="15m")

    assert (before.backlog, before.scheduled, before.running, before.ended) == (3, 1, 0, 0)
    assert (report.backlog, report.scheduled, report.completed, report.failed) == (0, 1 + 1, 2, 0)
    assert (report.attempts, report.failures, report.retries) == (3, 1, 1)
    assert (report.start_lag_mean, report.start_lag_max) == (30.0, 30.0)
    assert report.tasks["send"].scheduled == 1
    assert report.tasks["never"].scheduled == 1
    assert (after.ended, after.attempts, after.scheduled) == (0, 0, 1)


async def test_a_report_is_told_once_a_minute_whichever_executor_has_it(app: Durable, storage: VirtualStorage) -> None:
    seen = Seen()
    app.events.subscribe(seen, name="seen", names=["pool.*"])
    emails = app.pool("emails")

    @emails.task
    async def send(number: int) -> None:
        assert number < 2, "no"

    async with app_under_test(app, storage=storage) as kit, app.executor():
        await send.enqueue_many(range(3))
        await kit.drain()
        for _ in range(3):
            await minute(kit)

    assert [(event.name, event.subject, event.kind, event.task) for event in seen.events] == [
        ("pool.report", "pool:emails", "pool", "emails")
    ] * 3
    assert [(event.data["completed"], event.data["failed"]) for event in seen.events] == [(2, 1), (0, 0), (0, 0)]
    assert [event.data["permanent_failure_rate"] for event in seen.events] == [0.3333, 0.0, 0.0]
    assert [event.data["seconds"] for event in seen.events] == [60.0] * 3


async def test_reports_come_with_the_minutes_that_the_clock_passes(app: Durable, storage: VirtualStorage) -> None:
    seen = Seen()
    app.events.subscribe(seen, name="seen", names=["pool.report"])
    emails = app.pool("emails")

    @emails.task
    async def send() -> None:
        return None

    async with app_under_test(app, storage=storage) as kit:
        start = kit.clock.now()
        await kit.clock.advance("30s")
        await send.enqueue(delay="90s")
        assert seen.events == []
        await kit.clock.advance("10m")

    assert [round((event.at - start).total_seconds()) for event in seen.events] == [60 * n for n in range(1, 11)]
    # It was due at a full minute, at which the report was made before or after it.
    assert [event.data["completed"] for event in seen.events] in ([0, 1] + [0] * 8, [0, 0, 1] + [0] * 7)


async def test_a_long_time_stops_at_some_of_its_minutes_and_no_end_is_missing(
    app: Durable, storage: VirtualStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable.testing.drive._MOST_REPORTS", 3)
    seen = Seen()
    app.events.subscribe(seen, name="seen", names=["pool.report"])
    emails = app.pool("emails")

    @emails.task
    async def send() -> None:
        return None

    async with app_under_test(app, storage=storage) as kit:
        await send.enqueue(delay="1d")
        await kit.clock.advance("2d")
        await minute(kit)

    assert [event.data["seconds"] for event in seen.events[:3]] == [60.0] * 3
    assert len(seen.events) < 10
    assert sum(event.data["completed"] for event in seen.events) == 1


@pytest.mark.parametrize("names", [[], ["execution.*"]])
async def test_nothing_is_told_where_nobody_asked_for_reports(
    names: list[str], app: Durable, storage: VirtualStorage
) -> None:
    seen = Seen()
    if names:
        app.events.subscribe(seen, name="seen", names=names)
    emails = app.pool("emails")

    @emails.task
    async def send() -> None:
        return None

    async with app_under_test(app, storage=storage) as kit:
        await minute(kit)
        await send.enqueue()
        await minute(kit)
        assert sum((await app.events.pending()).values()) == 0
        assert (await emails.report()).completed == 1

    assert [event.name for event in seen.events] == ["execution.completed"] * bool(names)


async def test_a_pool_that_is_served_elsewhere_is_not_reported_here(app: Durable, storage: VirtualStorage) -> None:
    seen = Seen()
    app.events.subscribe(seen, name="seen", names=["pool.report"])
    app.pool("mine")
    app.pool("elsewhere")

    async with app_under_test(app, storage=storage, pools=["mine"]) as kit:
        await minute(kit)

    assert [event.task for event in seen.events] == ["mine"]
