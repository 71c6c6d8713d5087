"""The examples of workflows come to what they show, twice on one database."""

from __future__ import annotations

import pytest

from examples import agent, nightly_import, order_saga, refund_approval, subscription_billing
from storage_postgres import PostgresStorage


@pytest.fixture
def storage(postgres_dsn: str, empty_schema: str) -> PostgresStorage:
    return PostgresStorage(postgres_dsn, schema=empty_schema, min_size=1, max_size=4)


async def test_what_a_failed_trip_has_booked_is_undone_in_reverse(storage: PostgresStorage) -> None:
    with order_saga.app.override(storage=storage):
        for _ in range(2):
            diary = await order_saga.main()
            assert diary["ada"] == ["flight: no answer", "flight booked", "hotel booked", "car booked"]
            assert diary["bob"] == [
                "flight: no answer", "flight booked", "hotel booked", "hotel cancelled", "flight cancelled",
            ]  # fmt: skip


async def test_a_year_of_months_is_paid_by_the_plan_of_each() -> None:
    for _ in range(2):
        ada, bob = await subscription_billing.main()
        assert (ada.month, ada.plan, ada.paid) == (12, "team", 4 * 5.0 + 8 * 20.0)
        assert (bob.month, bob.paid) == (7, 140.0)
        assert len(subscription_billing.ledger) == 12 + 7


async def test_an_agent_streams_the_words_that_it_returns(storage: PostgresStorage) -> None:
    with agent.app.override(storage=storage):
        for _ in range(2):
            streamed, answer = await agent.main()
            assert streamed == answer
            assert answer.startswith("the text has 'Postgres' ")


async def test_ten_thousand_rows_are_imported_but_for_the_bad_slices(storage: PostgresStorage) -> None:
    with nightly_import.app.override(storage=storage):
        words, refused = await nightly_import.main()
        assert (len(words), refused) == (3, 2)


async def test_a_refund_is_granted_or_expires_after_a_reminder() -> None:
    for _ in range(2):
        assert await refund_approval.main() == ["lamp: granted by alice", "sofa: expired by nobody"]
        assert refund_approval.mails[-1] == "to alice and bob: sofa still waits for you"
