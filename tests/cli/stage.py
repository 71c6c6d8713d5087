"""What a test of the command line acts on: a schema whose clock stands still, rows in it, and the command itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg
import pytest
from psycopg import sql

from durable.cli import main
from durable.execution import Claimed, Execution, Kind, Settlement
from durable.storage import ExecutorRow
from durable.testing import Maker, VirtualClock
from durable.transitions import complete, fail, spawn
from storage_postgres import PostgresStorage
from storage_postgres.statements import render

__all__ = ["NOW", "Outcome", "Stage"]

NOW: Final = VirtualClock().now()
LEASE: Final = 15.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of the command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The last line of stdout."""
        return json.loads(self.out.splitlines()[-1])


class Stage:
    """Rows brought into any status by the verbs themselves, and the command line beside them."""

    def __init__(
        self,
        storage: PostgresStorage,
        dsn: str,
        control: psycopg.Connection[Any],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.storage = storage
        self.dsn = dsn
        self.schema = storage.schema
        self.make = Maker()
        self._control = control
        self._capsys = capsys

    def run(self, *arguments: str) -> Outcome:
        """The command in this process, on this stage's schema."""
        self._capsys.readouterr()
        try:
            code = main([*arguments, "--dsn", self.dsn, "--schema", self.schema])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        out, err = self._capsys.readouterr()
        return Outcome(code, out, err)

    def enqueue(self, **fields: Any) -> str:
        row = self.make.row(**fields)
        self.storage.enqueue([row]).run()
        return row.id

    def claim(self, *task_names: str, queue: str = "default", executor_id: str = "executor-a") -> list[Claimed]:
        names = task_names or ("task",)
        return self.storage.claim(
            executor_id=executor_id, queues=[queue], task_names=names, limit=100, lease=LEASE
        ).run()

    def turn(self, **fields: Any) -> Claimed:
        """One row, enqueued and claimed; nothing else may be ready under its name and queue."""
        self.enqueue(**fields)
        (turn,) = self.claim(fields.get("task_name", "task"), queue=fields.get("queue", "default"))
        return turn

    def settle(self, *settlements: Settlement) -> None:
        accepted = self.storage.settle(settlements).run().accepted
        assert accepted == {settlement.id for settlement in settlements}

    def failed(self, error: str = '{"type": "ValueError", "message": "no"}', **fields: Any) -> str:
        turn = self.turn(**fields)
        self.settle(fail(turn, error, retry_delay=None))
        return turn.id

    def completed(self, output: str = '"done"', **fields: Any) -> str:
        turn = self.turn(**fields)
        self.settle(complete(turn, output))
        return turn.id

    def family(self, children: int, **fields: Any) -> tuple[str, list[str]]:
        """A parent that waits for so many ready children of the task `child`."""
        turn = self.turn(task_name="parent", kind=Kind.PARENT)
        rows = self.make.children(turn, children, **{"task_name": "child", **fields})
        self.settle(spawn(turn, None, rows))
        return turn.id, [row.id for row in rows]

    def announce(self, executor_id: str = "executor-a", **fields: Any) -> None:
        row = ExecutorRow(executor_id, ("default",), ("task",), 0, 10, NOW, NOW)
        self.storage.announce(row._replace(**fields)).run()

    def record(self, execution_id: str) -> Execution:
        (record,) = self.storage.get([execution_id]).run()
        assert record is not None
        return record

    def advance(self, seconds: float) -> None:
        self._control.execute(
            render("update /*schema*/test_clock set at = at + %s", self.schema), [timedelta(seconds=seconds)]
        )

    def now(self) -> datetime:
        return self.storage.now().run()

    def tamper(self, execution_id: str, **columns: object) -> None:
        """Write columns past every verb."""
        changes = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in columns
        )
        statement = render("update /*schema*/executions set ", self.schema) + changes + sql.SQL(" where id = %(_id)s")
        assert self._control.execute(statement, {**columns, "_id": execution_id}).rowcount == 1
