"""The examples of keyed jobs and pools come to the result they tell of, also on what an earlier run has left."""

from __future__ import annotations

import pytest

from examples import token_refresher
from storage_postgres import PostgresStorage


@pytest.fixture
def storage(postgres_dsn: str, migrated_schema: str) -> PostgresStorage:
    return PostgresStorage(postgres_dsn, schema=migrated_schema, min_size=1, max_size=4)


@pytest.mark.parametrize("runs", [1, 2])
async def test_tokens_are_refreshed_after_a_failure_until_the_customer_is_gone(
    storage: PostgresStorage, runs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with token_refresher.app.override(storage=storage):
        for _ in range(runs):
            tokens = await token_refresher.main()

    assert tokens.keys() == {"ada", "bob"}
    for customer, last in tokens.items():
        assert last is not None
        assert last.refreshes >= 2
        assert last.retries == 1
        assert last.access == f"{customer}-{last.refreshes + last.retries}"
    assert "bob: the customer is gone" in capsys.readouterr().out
