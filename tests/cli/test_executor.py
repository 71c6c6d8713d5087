"""durable executor, as a process."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from durable.execution import Status
from durable.testing import Maker
from storage_postgres import PostgresStorage
from tests.cli.process import Process


class Stand:
    """A schema with rows in it, and executors of the app on it."""

    def __init__(self, dsn: str, schema: str, folder: Path, storage: PostgresStorage) -> None:
        self.environment = {"DURABLE_DSN": dsn, "SCHEMA": schema}
        self.folder = folder
        self._storage = storage
        self._make = Maker()

    def enqueue(self, task_name: str, **fields: str) -> str:
        row = self._make.row(task_name=task_name, **fields)
        self._storage.enqueue([row]).run()
        return row.id

    def status(self, execution_id: str) -> Status:
        (record,) = self._storage.get([execution_id]).run()
        assert record is not None
        return record.status

    def executor(self, *options: str) -> Process:
        arguments = ["-m", "durable", "executor", "shop:app", *options]
        return Process(arguments, cwd=self.folder, environment=self.environment)


@pytest.fixture
def stand(postgres_dsn: str, migrated_schema: str, folder: Path) -> Iterator[Stand]:
    storage = PostgresStorage(postgres_dsn, schema=migrated_schema, min_size=1, max_size=2)
    storage.open_blocking()
    yield Stand(postgres_dsn, migrated_schema, folder, storage)
    storage.close_blocking()


def test_an_executor_runs_tasks_until_a_signal_and_gives_0(stand: Stand) -> None:
    made = stand.enqueue("quick")
    with stand.executor() as process:
        process.hear("quick ran")
        process.send(signal.SIGTERM)
        assert process.end() == 0, process.said
    assert stand.status(made) is Status.COMPLETED, process.said


def test_a_first_signal_lets_running_handlers_finish(stand: Stand) -> None:
    made = stand.enqueue("until_shutdown")
    with stand.executor() as process:
        process.hear("began")
        process.send(signal.SIGINT)
        assert process.end() == 0
    assert stand.status(made) is Status.COMPLETED


def test_a_handler_that_outlives_the_grace_is_given_back(stand: Stand) -> None:
    made = stand.enqueue("endless")
    with stand.executor("--grace", "100ms") as process:
        process.hear("began")
        process.send(signal.SIGTERM)
        process.hear("running handlers get 0.1 s")
        assert process.end() == 0
    assert stand.status(made) is Status.READY


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_the_process_at_once(stand: Stand, number: signal.Signals, code: int) -> None:
    stand.enqueue("endless")
    with stand.executor("--grace", "1h") as process:
        process.hear("began")
        process.send(signal.SIGTERM)
        process.hear("stopping")
        process.send(number)
        assert process.end() == code


def test_signals_are_heard_while_a_handler_blocks_the_event_loop(stand: Stand) -> None:
    stand.enqueue("blocking")
    with stand.executor("--grace", "1h") as process:
        process.hear("began")
        process.send(signal.SIGTERM)  # two different ones: equal ones may be delivered as one
        process.send(signal.SIGINT)
        assert process.end() in (130, 143)


def test_a_signal_for_a_forked_child_ends_the_child_only(stand: Stand) -> None:
    stand.enqueue("forking")
    with stand.executor("--concurrency", "1") as process:
        process.hear("the child ended by signal 15")
        stand.enqueue("quick")
        process.hear("quick ran")
        process.send(signal.SIGTERM)
        assert process.end() == 0


def test_an_executor_serves_the_queues_it_is_given_and_names_the_others(stand: Stand) -> None:
    stand.enqueue("mail", queue="mail")
    with stand.executor("--queue", "mail", "--queue", "more") as process:
        assert "blocking, endless, forking, quick, until_shutdown" in process.hear("--queue default")
        process.hear("mail ran")


def test_an_executor_installs_the_schema_when_asked(postgres_dsn: str, schema: str, folder: Path) -> None:
    environment = {"DURABLE_DSN": postgres_dsn, "SCHEMA": schema}
    arguments = ["-m", "durable", "executor", "shop:app"]
    with Process(arguments, cwd=folder, environment=environment) as process:
        assert process.end() == 4
        assert "durable migrate" in process.said
    with Process([*arguments, "--migrate"], cwd=folder, environment=environment) as process:
        process.hear("serves default")


def test_an_executor_keeps_a_line_at_the_bottom_of_a_terminal(stand: Stand) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "durable", "executor", "shop:app", "--concurrency", "5"],
        cwd=stand.folder, env={**os.environ, **stand.environment, "TERM": "xterm", "COLUMNS": "120"}, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    try:
        seen = b""
        while b"0 of 5 slots run" not in seen:
            seen += os.read(ours, 4096)
        assert b"serves default" in seen
    finally:
        process.kill()
        process.wait()
        os.close(ours)
