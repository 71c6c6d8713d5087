"""The examples of keyed jobs and of a pool come to what they show, twice on one database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import groupby
from typing import TypeVar

import pytest

from durable import Durable
from examples import health_checker, mail_pool, order_state_machine, reminders, token_refresher, webhook_batcher
from storage_postgres import PostgresStorage

R = TypeVar("R")


@pytest.fixture
def storage(postgres_dsn: str, empty_schema: str) -> PostgresStorage:
    return PostgresStorage(postgres_dsn, schema=empty_schema, min_size=1, max_size=4)


async def twice(app: Durable, storage: PostgresStorage, main: Callable[[], Awaitable[R]]) -> list[R]:
    """What an example returns, and again on what its first run has left."""
    with app.override(storage=storage):
        return [await main(), await main()]


async def test_tokens_are_refreshed_after_a_failure_until_the_customer_is_gone(
    storage: PostgresStorage, capsys: pytest.CaptureFixture[str]
) -> None:
    for tokens in await twice(token_refresher.app, storage, token_refresher.main):
        ada, bob = tokens["ada"], tokens["bob"]
        assert ada is not None
        assert bob is not None
        assert ada.access == f"ada-{ada.refreshes + ada.retries}"
        assert (bob.access, bob.refreshes, bob.retries) == ("bob-3", 2, 1)
    assert capsys.readouterr().out.count("bob: the customer is gone") == 2


async def test_webhooks_of_a_contact_are_one_update_and_a_repeated_one_is_none(storage: PostgresStorage) -> None:
    for statuses, updates in await twice(webhook_batcher.app, storage, webhook_batcher.main):
        assert statuses == [202, 202, 200, 202, 202]
        assert updates == {
            "ada": [{"name": "Ada", "mail": "ada@example.org", "city": "London"}],
            "bob": [{"city": "London"}],
        }


async def test_an_order_goes_its_way_with_a_reminder_and_refuses_a_step_too_early(storage: PostgresStorage) -> None:
    for order, mails in await twice(order_state_machine.app, storage, order_state_machine.main):
        assert order == order_state_machine.Order(
            "shipped", asked=["created", "shipped"], refused=["shipped, but the order is created"]
        )
        assert mails == [
            "welcome", "lamp is created", "when will you pay lamp?", "lamp is paid", "lamp is shipped",
            "did lamp arrive?",
        ]  # fmt: skip


async def test_a_server_that_goes_down_and_comes_back_is_one_alert_each(storage: PostgresStorage) -> None:
    for alerts, (web, database) in await twice(health_checker.app, storage, health_checker.main):
        assert alerts == ["the watch begins", "database is down", "database is up again"]
        assert web is not None
        assert database is not None
        assert set(web.history) == {True}
        runs = [(is_up, len(list(checks))) for is_up, checks in groupby(database.history)]
        assert [is_up for is_up, _ in runs] == [True, False, True]
        assert runs[1][1] >= 2


async def test_reminders_come_once_each_and_those_that_were_replaced_or_cancelled_do_not(
    storage: PostgresStorage,
) -> None:
    for mails in await twice(reminders.app, storage, reminders.main):
        assert sorted(mails["ada"]) == ["the lamp is here", "welcome", "your table is at seven"]
        assert len(mails["bob"]) >= 2
        assert set(mails["bob"]) == {"your weekly report"}


async def test_mails_keep_the_rate_and_their_order_for_each_recipient(storage: PostgresStorage) -> None:
    for report in await twice(mail_pool.app, storage, lambda: mail_pool.main(count=24)):
        assert sorted(subject for _, subject in report.received) == sorted(f"mail {number}" for number in range(24))
        for recipient in {recipient for recipient, _ in report.received}:
            numbers = [int(subject.split()[1]) for to, subject in report.received if to == recipient]
            assert numbers == sorted(numbers)
            assert len(numbers) == 6
        # The first goes at once, and each other waits for a token of its own.
        assert report.seconds >= 23 * mail_pool.RATE.per
