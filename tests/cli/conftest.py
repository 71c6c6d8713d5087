"""Fixtures of the command line."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from storage_postgres import PostgresStorage
from tests.cli.stage import Stage


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database of whoever runs the tests is not the one they act on."""
    monkeypatch.delenv("DURABLE_DSN", raising=False)


@pytest.fixture
def stage(
    postgres_dsn: str,
    still_schema: str,
    postgres_control: psycopg.Connection[Any],
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Stage]:
    storage = PostgresStorage(postgres_dsn, schema=still_schema, min_size=1, max_size=2)
    storage.open_blocking()
    yield Stage(storage, postgres_dsn, postgres_control, capsys)
    storage.close_blocking()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with an app, and with modules that cannot be imported."""
    shutil.copy(Path(__file__).with_name("shop.py"), tmp_path)
    (tmp_path / "broken.py").write_text("raise RuntimeError('broken at import')", encoding="utf-8")
    (tmp_path / "needy.py").write_text("import no_such_module_anywhere", encoding="utf-8")
    return tmp_path
