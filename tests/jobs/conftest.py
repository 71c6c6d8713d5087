"""Fixtures of the tests of jobs: virtual time on either storage, and places for several executors at once."""

from __future__ import annotations

import pytest

from durable import Durable
from durable.testing import VirtualStorage
from tests.flow.conftest import place, postgres

__all__ = ["place", "postgres"]


@pytest.fixture(params=["durable_memory", "durable_postgres"])
def storage(request: pytest.FixtureRequest) -> VirtualStorage:
    found: VirtualStorage = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def app() -> Durable:
    """As a service has it: on a database that no test can reach."""
    return Durable("postgresql://nobody@nowhere.invalid/nothing")
