"""The examples of workflows come to what they show, twice on one database."""

from __future__ import annotations

import pytest

from examples import order_saga, subscription_billing
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
