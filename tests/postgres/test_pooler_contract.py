"""The parts of a storage's contract that lean on transactions and locks, kept behind pgbouncer by pools of one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from durable.testing.contract.claim_races import ClaimRacesContract
from durable.testing.contract.enqueue_races import EnqueueRacesContract
from durable.testing.contract.operations import OperationContract
from durable.testing.contract.scene import Scene
from durable.testing.contract.subject import ContractSubject
from durable.testing.contract.tree_races import TreeRacesContract
from tests.support.bouncer import bouncing
from tests.support.clock import stop_clock
from tests.support.subject import open_subject

pytestmark = pytest.mark.pgbouncer


@pytest.fixture(scope="module")
def bouncer_dsn(postgres_dsn: str) -> Iterator[str]:
    """Of as many server connections as a case lets wait for each other at once."""
    with bouncing(postgres_dsn, pool_size=6) as dsn:
        yield dsn


class TestBehindPgbouncer(OperationContract, ClaimRacesContract, TreeRacesContract, EnqueueRacesContract):
    @pytest_asyncio.fixture
    async def subject(
        self, postgres_dsn: str, bouncer_dsn: str, migrated_schema: str, postgres_control: psycopg.Connection[Any]
    ) -> AsyncIterator[ContractSubject]:
        stop_clock(postgres_control, migrated_schema)
        async with open_subject(postgres_dsn, migrated_schema, through=bouncer_dsn) as subject:
            yield subject

    async def test_hints_reach_a_listener_or_listening_ends_at_once(self, scene: Scene) -> None:
        """Other processes share the storage, and yet nobody can listen: LISTEN belongs to a session."""
        assert scene.storage.is_shared
        assert [hint async for hint in scene.storage.listen()] == []
