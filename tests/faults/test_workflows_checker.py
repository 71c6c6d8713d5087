"""The checker of the workflows runs notices what it is there for: each rule is seen to fail on data that break it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from durable import Durable
from storage_postgres import PostgresStorage
from storage_postgres.statements import render
from tests.faults.ledger import Event, Ledger, Reader
from tests.faults.server import Database, database
from tests.faults.workflows_app import SIGNAL, sagas
from tests.faults.workflows_audit import EFFECT, begin_audit
from tests.faults.workflows_checker import RULES, Started, WorkflowsVerdict, judge_workflows

SAGA = "(select id from /*schema*/executions where task_name = 'saga' order by id limit 1)"


class Sound(NamedTuple):
    """A run in which nothing went wrong."""

    database: Database
    started: dict[str, Started]
    events: list[Event]


@pytest.fixture(scope="module")
def sound_run(postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sound]:
    folder = tmp_path_factory.mktemp("ledgers")
    with database(postgres_dsn, "faults_workflows_checker") as opened:
        begin_audit(opened)
        started = asyncio.run(play(opened, folder))
        reader = Reader(folder)
        reader.read()
        yield Sound(opened, started, reader.events)


@pytest.fixture
def sound(sound_run: Sound) -> Iterator[Sound]:
    """What a test spoils is whole again for the next."""
    sound_run.database.rows("begin")
    yield sound_run
    sound_run.database.rows("rollback")


async def play(opened: Database, folder: Path) -> dict[str, Started]:
    """Some sagas, so many that a step of one of them fails at first."""
    app = Durable(storage=PostgresStorage(opened.dsn, schema=opened.schema))
    tasks = sagas(app, Ledger(folder), render(EFFECT, opened.schema).as_bytes(None))
    async with app, app.executor(poll_interval="50ms"):
        handles = [await tasks.saga.enqueue(number) for number in range(20)]
        for number, handle in enumerate(handles):
            await handle.signal(SIGNAL, number % 7, signal_id="go")
            await handle.signal(SIGNAL, number % 7, signal_id="go")
        await app.wait(handles, timeout=60)
    return {handle.execution_id: Started(number, number % 7) for number, handle in enumerate(handles)}


def verdict(found: Sound, events: list[Event] | None = None, suspended: tuple[int, ...] = ()) -> WorkflowsVerdict:
    return judge_workflows(found.database, found.started, found.events if events is None else events, suspended)


def broken(found: WorkflowsVerdict) -> set[str]:
    return {rule for rule, problems in found.violations.items() if problems}


def first_step(found: Sound, kind: str = "step") -> Event:
    return next(event for event in found.events if event.kind == kind and event.fields["key"] == "begin#1")


def test_a_sound_run_breaks_no_rule(sound: Sound) -> None:
    found = verdict(sound)
    assert found.problems == []
    assert set(found.violations) == set(RULES)
    # 20 sagas of five steps with a branch of one, and attempts that failed.
    assert found.steps > 120


@pytest.mark.parametrize(
    ("rule", "statement"),
    [
        ("results", f"update /*schema*/executions set output = '[1]' where id = {SAGA}"),
        ("results", f"update /*schema*/executions set id = gen_random_uuid() where id = {SAGA}"),
        ("transactions", f"insert into /*schema*/step_effects values ({SAGA}, 'book#1', 1, 2)"),
        ("transactions", f"delete from /*schema*/step_effects where execution_id = {SAGA} and key = 'ship#1'"),
        ("transactions", f"update /*schema*/step_effects set fence = 0 where execution_id = {SAGA}"),
        ("steps", f"delete from /*schema*/history_audit where execution_id = {SAGA} and key = 'pay#1'"),
        ("children", f"update /*schema*/executions set children_count = 3 where id = {SAGA}"),
        ("children", f"update /*schema*/executions set parent_id = null where parent_id = {SAGA}"),
        ("signals", f"update /*schema*/messages set payload = '99' where execution_id = {SAGA}"),
        ("signals", "insert into /*schema*/messages select execution_id, 2, kind, name, payload, 'another', at"
                    f" from /*schema*/messages where execution_id = {SAGA}"),
        ("signals", "insert into /*schema*/messages select gen_random_uuid(), 1, kind, name, payload, null, at"
                    f" from /*schema*/messages where execution_id = {SAGA}"),
        ("sleeps", f"update /*schema*/history set at = at - interval '1 hour' where execution_id = {SAGA}"
                   " and key = 'close#1'"),
        ("sleeps", f"delete from /*schema*/history where execution_id = {SAGA} and kind = 'sleeping'"),
        ("histories", f"delete from /*schema*/history where execution_id = {SAGA} and seq = 2"),
        ("histories", f"update /*schema*/history set output = null where execution_id = {SAGA} and seq = 2"),
        ("histories", "insert into /*schema*/history select execution_id, 99, kind, key, output, error, detail, at"
                      f" from /*schema*/history where execution_id = {SAGA} and key = 'pay#1' and kind = 'step'"),
        ("changes", f"insert into /*schema*/audit values ({SAGA}, 'completed', 'running', 4, 5)"),
        ("changes", "insert into /*schema*/audit select execution_id, 'running', 'completed', 1, 2"
                    f" from /*schema*/audit where execution_id = {SAGA}"),
        ("open", f"update /*schema*/executions set close_status = 'ready' where id = {SAGA}"),
        ("open", f"update /*schema*/executions set active_children_count = 1 where id = {SAGA}"),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_in_the_tables_is_found(sound: Sound, rule: str, statement: str) -> None:
    sound.database.rows(statement)
    assert rule in broken(verdict(sound))


def test_a_step_that_ran_again_after_its_result_was_stored_is_found(sound: Sound) -> None:
    later = first_step(sound)._replace(fence=1000)
    assert broken(verdict(sound, [*sound.events, later])) == {"reruns"}


def test_a_step_that_ran_twice_in_the_turn_that_stored_it_is_found(sound: Sound) -> None:
    assert broken(verdict(sound, [*sound.events, first_step(sound)])) == {"reruns"}


def test_a_step_that_began_in_a_turn_that_was_taken_away_is_found_unless_its_clock_had_stood_still(
    sound: Sound,
) -> None:
    begun = first_step(sound)
    late = begun._replace(fence=begun.fence - 1, at=begun.at + 1, pid=1)
    assert broken(verdict(sound, [*sound.events, late])) == {"reruns"}
    excused = verdict(sound, [*sound.events, late], suspended=(1,))
    assert (broken(excused), excused.late_starts) == (set(), 1)


def test_a_result_of_a_step_that_never_came_to_its_end_is_found(sound: Sound) -> None:
    ended = first_step(sound, "stepped")
    assert broken(verdict(sound, [event for event in sound.events if event is not ended])) == {"steps"}
