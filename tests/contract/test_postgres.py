"""The contract of a storage, kept by the one on Postgres."""

import pytest

from durable.testing.contract import ContractSubject, StorageContract


class TestPostgres(StorageContract):
    @pytest.fixture
    def subject(self, postgres_subject: ContractSubject) -> ContractSubject:
        return postgres_subject
