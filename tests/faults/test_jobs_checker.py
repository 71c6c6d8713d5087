"""The checker of the jobs runs notices what it is there for: each rule is seen to fail on data that break it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from durable import Durable
from storage_postgres import PostgresStorage
from tests.faults.jobs_app import Added, Jobs, LockProbe, Mended, Sum, keyed_jobs
from tests.faults.jobs_audit import begin_audit, still_open
from tests.faults.jobs_checker import RULES, JobsVerdict, judge_jobs
from tests.faults.jobs_client import ClientSettings, Load
from tests.faults.ledger import Event, Ledger, Reader
from tests.faults.server import Database, database, wait_until

Events = list[Event]


class Sound(NamedTuple):
    """A run in which nothing went wrong."""

    database: Database
    events: Events


@pytest.fixture(scope="module")
def sound_run(postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sound]:
    folder = tmp_path_factory.mktemp("ledgers")
    with database(postgres_dsn, "faults_jobs_checker") as opened:
        begin_audit(opened)
        asyncio.run(play(opened, folder))
        reader = Reader(folder)
        reader.read()
        yield Sound(opened, reader.events)


@pytest.fixture
def sound(sound_run: Sound) -> Iterator[Sound]:
    """What a test spoils is whole again for the next."""
    sound_run.database.rows("begin")
    yield sound_run
    sound_run.database.rows("rollback")


async def play(opened: Database, folder: Path) -> None:
    """Events for an order and a batch, one of them in vain, and a Continuous that runs once."""
    ledger = Ledger(folder)
    app = Durable(storage=PostgresStorage(opened.dsn, schema=opened.schema))
    probe = LockProbe(opened.dsn)
    jobs = keyed_jobs(app, ledger, probe, Mended(folder), tick="1h")
    load = Load(jobs, ledger, ClientSettings(opened.dsn, opened.schema, str(folder), 1, 1.0, 1))
    async with app:
        await send(load, jobs, "1", Added("in vain", 1))
        await load.call("terminate", "task:order", "1", lambda: jobs.order.terminate("1", reason="test"), reason="test")
        async with app.executor(poll_interval="50ms"):
            await load.call("start", "continuous:ticker", "0", lambda: jobs.ticker.start("0", Sum(), wait=True))
            for number in range(3):
                await send(load, jobs, "0", Added(f"order {number}", 2, is_passed_on=number == 1))
            await load.call(
                "event", "debounce:batch", "0", lambda: jobs.batch.add("0", Added("added", 5), event_id="added"),
                uid="added",
            )  # fmt: skip
            await load.call("pause", "continuous:ticker", "0", lambda: jobs.ticker.pause("0"))
            assert await asyncio.to_thread(wait_until, lambda: not still_open(opened), limit=30.0)
    probe.close()


async def send(load: Load, jobs: Jobs, key: str, event: Added) -> None:
    await load.call("event", "task:order", key, lambda: jobs.order.send(key, event, event_id=event.uid), uid=event.uid)


def verdict(found: Sound, events: Events | None = None) -> JobsVerdict:
    return judge_jobs(found.database, found.events if events is None else events, {})


def changed(found: Sound, turn: Event, **fields: Any) -> Events:
    """The events of a run, with other fields in one of them."""
    return [event._replace(fields={**event.fields, **fields}) if event is turn else event for event in found.events]


def accepted(found: Sound, uid: str) -> Event:
    """The accepted turn of an event of the order."""
    rows = found.database.rows("select id::text, settled_fence from /*schema*/executions where status = 'completed'")
    keys = {(id_, fence) for id_, fence in rows}
    return next(
        event
        for event in found.events
        if event.kind == "turn" and (event.execution_id, event.fence) in keys and event.fields["events"] == [uid]
    )


def test_a_sound_run_breaks_no_rule(sound: Sound) -> None:
    found = verdict(sound)
    assert found.problems == []
    assert found.violations.keys() == set(RULES)
    assert found.thrown_away == 1
    # Four events were handled, one passed on, one flushed on; the turns: those, the flush, the first tick, an execute.
    assert found.events >= 7
    assert found.turns >= 8


ORDER = "kind = 'task' and name = 'order' and key = '0'"
TURN = "kind = 'turn' and task_name = 'task:order' and status = 'completed'"


@pytest.mark.parametrize(
    ("rule", "spoil"),
    [
        ("runs", f"update /*schema*/jobs set run_count = run_count + 1 where {ORDER}"),
        ("runs", f"update /*schema*/jobs set execute_count = execute_count + 1 where {ORDER}"),
        ("runs", "delete from /*schema*/job_audit where runs > runs_before and instance = 'task:order:0'"),
        ("runs", "update /*schema*/job_audit set turn_before = gen_random_uuid() where runs > runs_before"),
        ("states", f"""update /*schema*/jobs set state = '{{"total":7,"turns":3,"executes":1}}' where {ORDER}"""),
        ("states", f"update /*schema*/jobs set state = null where {ORDER}"),
        ("numbers", f"update /*schema*/jobs set event_count = event_count + 1 where {ORDER}"),
        ("numbers", "update /*schema*/inbox_audit set number = 9 where event_id = 'order 1'"),
        ("numbers", "update /*schema*/inbox_audit set number = 1 where event_id = 'order 1'"),
        ("events_lost", "delete from /*schema*/inbox_audit where event_id = 'order 1'"),
        ("events_lost", "delete from /*schema*/inbox_audit where event_id like '%%/0'"),
        ("events_lost", "update /*schema*/inbox_audit set at = at, status = 'taken' where status = 'deleted'"),
        ("events_doubled", "insert into /*schema*/inbox_audit (job_id, epoch, number, event_id, status) select job_id,"
         " epoch, 4, event_id, status from /*schema*/inbox_audit where event_id = 'order 1' and status_before is null"),
        ("events_doubled", "insert into /*schema*/inbox_audit (job_id, epoch, number, event_id, status_before, status)"
         " select job_id, epoch, number, event_id, 'taken', 'deleted' from /*schema*/inbox_audit"
         " where event_id = 'order 1' and status_before is null"),
        ("events_unknown", "insert into /*schema*/inbox_audit (job_id, epoch, number, event_id, status)"
         f" select id, epoch, 4, 'nobody''s', 'pending' from /*schema*/jobs where {ORDER}"),
        ("unscheduled", f"update /*schema*/jobs set turn_id = gen_random_uuid() where {ORDER}"),
        ("unscheduled", "update /*schema*/jobs as j set turn_id = e.id from /*schema*/executions as e"
         f" where e.root_id = j.id and e.finished_at is not null and j.{ORDER.replace('and ', 'and j.')}"),
        ("unscheduled", "update /*schema*/jobs set status = 'active', scheduled_at = null where kind = 'continuous'"),
        ("unscheduled", "update /*schema*/inbox set status = 'pending' where event_id = 'order 1'"),
        ("unscheduled", "update /*schema*/inbox set status = 'taken' where event_id = 'order 1'"),
        ("unscheduled", "update /*schema*/executions set status = 'ready', finished_at = null, attempts = 0,"
         f" deliveries = 0 where {TURN}"),
        ("changes", "insert into /*schema*/audit values (gen_random_uuid(), 'completed', 'running', 1, 2)"),
        ("changes", "insert into /*schema*/audit select * from /*schema*/audit where status = 'completed'"),
        ("calls", "update /*schema*/job_audit set reason = 'another' where reason = 'test'"),
    ],
)  # fmt: skip
def test_spoiled_tables_are_noticed(sound: Sound, rule: str, spoil: str) -> None:
    sound.database.rows(spoil)
    assert verdict(sound).violations[rule] != []


def test_an_event_that_no_accepted_turn_was_given_is_lost(sound: Sound) -> None:
    turn = accepted(sound, "order 1")
    events = changed(sound, turn, events=[])
    assert verdict(sound, events).violations["events_lost"] != []


def test_an_event_that_waits_for_its_turn_is_not_lost(sound: Sound) -> None:
    turn = accepted(sound, "order 1")
    sound.database.rows("update /*schema*/inbox set status = 'pending' where event_id = 'order 1'")
    assert verdict(sound).violations["events_doubled"] != []
    assert verdict(sound, changed(sound, turn, events=[])).violations["events_lost"] == []


def test_an_event_in_two_accepted_turns_is_doubled(sound: Sound) -> None:
    turn = accepted(sound, "order 1")
    events = changed(sound, turn, events=["order 0", "order 1"])
    assert verdict(sound, events).violations["events_doubled"] != []


def test_an_event_that_was_never_taken_is_unknown(sound: Sound) -> None:
    turn = accepted(sound, "order 1")
    events = changed(sound, turn, events=["order 1", "another"])
    assert verdict(sound, events).violations["events_unknown"] != []


def test_an_event_sent_by_a_turn_that_was_not_accepted_is_unknown(sound: Sound) -> None:
    turn = accepted(sound, "order 1")
    events = [event for event in sound.events if not (event.kind == "sent" and event.execution_id == turn.execution_id)]
    assert verdict(sound, events).violations["events_unknown"] != []


def test_an_event_thrown_away_unasked_is_lost(sound: Sound) -> None:
    events = [event for event in sound.events if event.fields.get("op") != "terminate"]
    found = verdict(sound, events)
    assert found.violations["events_lost"] != []
    assert found.violations["calls"] != []


def test_a_turn_within_another_overlaps(sound: Sound) -> None:
    turn = accepted(sound, "order 1")
    within = turn._replace(execution_id="another", at=turn.at + 1, fields={**turn.fields, "events": []})
    assert verdict(sound, [*sound.events, within]).violations["overlaps"] != []


def test_a_lock_that_somebody_holds_is_an_overlap(sound: Sound) -> None:
    turn = accepted(sound, "order 1")
    events = changed(sound, turn, alone=False)
    assert verdict(sound, events).violations["overlaps"] != []


def test_an_attempt_that_lost_its_lease_alive_is_counted_and_no_overlap(sound: Sound) -> None:
    turn = accepted(sound, "order 1")
    sound.database.rows(
        "insert into /*schema*/audit values (%s, 'running', 'ready', 0, 1)", turn.execution_id
    )  # the attempt before, whose lease ran out
    before = turn._replace(fence=0, at=turn.at - 1)
    own_end = next(event for event in sound.events if event.kind == "turned" and event[1:3] == turn[1:3])
    found = verdict(sound, [before, own_end._replace(fence=0), *sound.events])
    assert (found.violations["overlaps"], found.lost_leases) == ([], 1)


@pytest.mark.parametrize("kind", ["answer", "wrong"])
def test_a_call_without_an_answer_and_an_unexpected_error_are_noticed(sound: Sound, kind: str) -> None:
    events = [event for event in sound.events if event.kind != kind]
    if kind == "wrong":
        events.append(Event("wrong", "", 0, 0, 1, {"text": "an error that no call should raise"}))
    assert verdict(sound, events).violations["calls"] != []


def test_a_probe_finds_the_turns_of_its_own_process_and_those_of_others(postgres_dsn: str) -> None:
    one, other = LockProbe(postgres_dsn), LockProbe(postgres_dsn)
    assert one.enter("a turn")
    assert not one.enter("a turn")
    assert not other.enter("a turn")
    assert other.enter("another")
    one.leave("a turn")
    assert other.enter("a turn")
    one.close()
    other.close()
