"""The checker of the fault runs notices what it is there for."""

from pathlib import Path
from typing import Any

import pytest

from durable import Durable, Status
from storage_postgres import PostgresStorage
from tests.faults.checker import fenced_writes, judge, open_records, percentile
from tests.faults.ledger import Event, Ledger, Reader
from tests.faults.mix import Expected
from tests.faults.server import Database, database

ID = "01900000-0000-7000-8000-000000000000"


def event(kind: str, fence: int = 1, *, pid: int = 1, **fields: Any) -> Event:
    return Event(kind, ID, fence, 0, pid, fields)


def start(fence: int = 1, attempt: int = 1) -> Event:
    return event("start", fence, task="plain", attempt=attempt)


def write(verb: str, accepted: bool, fence: int = 1, pid: int = 1) -> Event:
    return event("write", fence, pid=pid, verb=verb, accepted=accepted)


def test_a_torn_last_line_is_left_until_it_is_whole(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.note("start", ID, 1)
    reader = Reader(tmp_path)
    assert [found.kind for found in reader.read()] == ["start"]
    (path,) = tmp_path.iterdir()
    with path.open("a") as file:
        file.write('{"kind": "end", "id": "x"')
        file.flush()
        assert reader.read() == []
        file.write(', "fence": 1, "at": 5}\n')
    assert [found.kind for found in reader.read()] == ["end"]
    assert [found.kind for found in reader.events] == ["start", "end"]


def test_only_what_others_took_counts_as_fenced() -> None:
    own = [write("completed", True), write("renew", False), write("heartbeat", False)]
    taken = [write("completed", False, fence=3), write("renew", False, fence=5)]
    assert fenced_writes([start(), *own, *taken]) == taken


@pytest.mark.parametrize(
    ("values", "part", "expected"), [([], 0.5, None), ([3.0, 1.0, 2.0], 0.5, 2.0), ([1.0], 0.99, 1.0)]
)
def test_percentiles(values: list[float], part: float, expected: float | None) -> None:
    assert percentile(values, part) == expected


@pytest.fixture
def stored(postgres_dsn: str) -> Any:
    """A database with one completed execution, and its id."""
    with database(postgres_dsn, "faults_checker") as opened:
        app = Durable(storage=PostgresStorage(postgres_dsn, schema=opened.schema))

        @app.task(name="plain")
        def plain(n: int) -> dict[str, int]:
            return {"value": n, "fence": 1}

        with app.client() as client:
            id_ = client.enqueue(plain, 7).execution_id
        claim = (
            "update /*schema*/executions set status = 'running', fence = 1, deliveries = 1, attempts = 1,"
            " lease_expires_at = now()"
        )
        end = (
            "update /*schema*/executions set status = 'completed', fence = 2, settled_fence = 1,"
            ' lease_expires_at = null, output = \'{"value":7,"fence":1}\', finished_at = now(),'
            " close_status = 'closed'"
        )
        opened.rows(claim)
        opened.rows(end)
        opened.rows("insert into /*schema*/effects values (%s, 1, 1, 1, now())", id_)
        yield opened, id_


def verdict(stored: tuple[Database, str], *events: Event, value: int | None = 7) -> list[str]:
    opened, id_ = stored
    return judge(opened, {id_: Expected("plain", Status.COMPLETED, value)}, events).problems


def test_a_sound_run_has_no_problem(stored: Any) -> None:
    assert verdict(stored, start(), write("completed", True)) == []
    assert open_records(stored[0], within=0) == 0


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        ('update /*schema*/executions set output = \'{"value":8,"fence":1}\'', "lost: plain"),
        ("update /*schema*/executions set output = null, status = 'failed'", "lost: plain"),
        ("update /*schema*/executions set settled_fence = 3", "has the result of fence 1, accepted was 3"),
        ("update /*schema*/executions set fence = 1", "a fence that did not grow"),
        ("delete from /*schema*/effects", "the effect of"),
        ("delete from /*schema*/executions", "missing"),
        ("insert into /*schema*/audit select * from /*schema*/audit", "ended 2 times"),
        (
            "insert into /*schema*/audit values (gen_random_uuid(), 'completed', 'running', 1, 2)",
            "completed to running",
        ),
    ],
)
def test_spoiled_records_are_noticed(stored: Any, spoil: str, problem: str) -> None:
    stored[0].rows(spoil)
    assert any(problem in found for found in verdict(stored, start()))


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ([start(), start()], "fence 1 of"),
        ([start(attempt=2)], "attempt 2 of plain"),
        ([write("completed", True), write("failed", True, fence=3)], "had 2 accepted ends"),
    ],
)
def test_spoiled_ledgers_are_noticed(stored: Any, events: list[Event], problem: str) -> None:
    assert any(problem in found for found in verdict(stored, *events))


@pytest.mark.parametrize(
    "spoil",
    [
        "update /*schema*/executions set active_children_count = 1",
        "update /*schema*/executions set close_status = 'closing'",
        "update /*schema*/executions set status = 'ready', finished_at = null, attempts = 0, deliveries = 0",
    ],
)
def test_what_is_open_is_counted(stored: Any, spoil: str) -> None:
    stored[0].rows(spoil)
    assert open_records(stored[0], within=0) == 1
