"""The places of flow tests: a fresh store in memory, and a fresh schema on Postgres."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from durable import Durable

from .place import MemoryPlace, Place, PostgresPlace


@pytest.fixture
def postgres(
    postgres_dsn: str, empty_schema: str, postgres_control: psycopg.Connection[Any]
) -> Iterator[PostgresPlace]:
    place = PostgresPlace(postgres_dsn, empty_schema, postgres_control)
    yield place
    assert place.is_spoiled or place.defects() == []


@pytest.fixture(params=["memory", "postgres"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Runs the test once in memory and once on Postgres; the records must be sound when it ends."""
    if request.param == "postgres":
        yield request.getfixturevalue("postgres")
        return
    memory = MemoryPlace()
    yield memory
    assert memory.is_spoiled or memory.defects() == []


@pytest.fixture
def app(place: Place) -> Durable:
    return place.app()
