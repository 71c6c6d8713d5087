"""A pgbouncer in transaction mode in front of the test server."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    pass


def pytest_collection_modifyitems(config, items) -> None:
    pass
