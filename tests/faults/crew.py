"""The processes and the server of a fault run: started here, and only these are ever signalled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from storage_postgres import PostgresStorage
from storage_postgres.embedded import start

__all__ = ["Crew", "crew", "wait_until"]

ROOT = Path(__file__).parents[2]


def wait_until(condition: Callable[[], bool], limit: float, what: str) -> None:
    """Look until it holds; raises TimeoutError after `limit` seconds. A fault run waits for real processes."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what} did not happen within {limit:g} s")
        time.sleep(0.05)


@dataclass
class Crew:
    """Executor processes on one database, with a folder for their ledgers."""

    dsn: str
    folder: Path
    environment: dict[str, str]
    connection: psycopg.Connection[Any]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def spawn(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.worker"], cwd=ROOT, env=self.environment,
            stdout=subprocess.DEVNULL, stderr=(self.folder / "stderr").open("ab"),
        )  # fmt: skip
        self.processes.append(process)
        return process

    def query(self, text: LiteralString, *params: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(text, params or None).fetchall()

    def held_by(self, process: subprocess.Popen[bytes]) -> dict[str, int]:
        """Running executions of one process with their fences."""
        return dict(
            self.query(
                "select id::text, fence from faults.executions where status = 'running' and executor_id like %s",
                f"%-{process.pid}-%",
            )
        )

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
                process.send_signal(signal.SIGCONT)
        for process in self.processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def crew(dsn: str | None, *, lease: float, longest: float) -> Iterator[Crew]:
    """A server of our own unless a DSN is given, a fresh schema, and no process yet."""
    with tempfile.TemporaryDirectory(prefix="durable-faults-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = None if dsn else start(folder / "server")
        address = dsn or (server.dsn() if server else "")
        storage = PostgresStorage(address, schema="faults")
        connection = psycopg.connect(address, autocommit=True)
        connection.execute("drop schema if exists faults cascade")
        storage.migrate()
        _audit(connection)
        environment = {
            **os.environ, "DURABLE_FAULTS_DSN": address, "DURABLE_FAULTS_FOLDER": name,
            "DURABLE_FAULTS_LEASE": str(lease), "DURABLE_FAULTS_LONGEST": str(longest),
        }  # fmt: skip
        os.environ.update(environment)
        made = Crew(address, folder, environment, connection)
        try:
            yield made
        finally:
            made.stop()
            connection.execute("drop schema if exists faults cascade")
            connection.close()
            if server is not None:
                server.release()


def _audit(connection: psycopg.Connection[Any]) -> None:
    """A trigger that notes every accepted end, so that a second one of the same execution stays visible."""
    connection.execute("create table faults.ends (id uuid, fence bigint, status text)")
    connection.execute(
        "create function faults.note_end() returns trigger language plpgsql as $$ begin "
        "insert into faults.ends values (new.id, new.settled_fence, new.status); return null; end $$"
    )
    connection.execute(
        "create trigger note_end after update on faults.executions for each row "
        "when (new.finished_at is not null and (old.finished_at is null or old.fence <> new.fence)) "
        "execute function faults.note_end()"
    )
