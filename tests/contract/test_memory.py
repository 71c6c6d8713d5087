"""The contract of a storage, kept by the one in memory."""

import pytest

from durable.testing.contract import ContractSubject, StorageContract


class TestMemory(StorageContract):
    @pytest.fixture
    def subject(self, memory_subject: ContractSubject) -> ContractSubject:
        return memory_subject
