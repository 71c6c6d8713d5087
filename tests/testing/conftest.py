"""Fixtures of the kit's tests: each runs once in memory and once on Postgres, by the fixtures that users have."""

from __future__ import annotations

import pytest

from durable import Durable
from durable.testing import VirtualStorage


@pytest.fixture(params=["durable_memory", "durable_postgres"])
def storage(request: pytest.FixtureRequest) -> VirtualStorage:
    found: VirtualStorage = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def app() -> Durable:
    """As a service has it: on a database that no test can reach."""
    return Durable("postgresql://nobody@nowhere.invalid/nothing")
