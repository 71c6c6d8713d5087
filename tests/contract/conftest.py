"""Fixtures of the storage contract."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("durable.testing.contract")

from durable.testing.contract import ContractSubject  # noqa: E402 - the rewrite must be registered before the import
from tests.support.memory_subject import MemorySubject  # noqa: E402


@pytest.fixture
def memory_subject() -> ContractSubject:
    return MemorySubject()
