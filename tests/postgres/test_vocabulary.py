"""One vocabulary: the columns and CHECK lists of the database are the fields and enums of durable.execution."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

import psycopg
import pytest

from durable.execution import FINISHED, PRIORITIES, Claimed, CloseStatus, Execution, Kind, NewExecution, Phase, Status
from durable.job import Job, JobKind, JobStatus, TurnCause
from durable.notice import NewNotice, Notice
from durable.pool_rows import PoolConfig
from durable.timer import Anchor, StoredTimer
from durable.workflow_rows import Entry, Message, MessageKind, Published, StoredChunk
from storage_postgres.statements import load

Control = psycopg.Connection[Any]


def columns_of(control: Control, schema: str, table: str) -> list[str]:
    rows = control.execute(
        "select column_name from information_schema.columns where table_schema = %s and table_name = %s"
        " order by ordinal_position",
        [schema, table],
    ).fetchall()
    return [name for (name,) in rows]


def check_of(control: Control, schema: str, constraint: str) -> str:
    row = control.execute(
        "select pg_catalog.pg_get_constraintdef(c.oid) from pg_catalog.pg_constraint as c"
        " join pg_catalog.pg_namespace as n on n.oid = c.connamespace where n.nspname = %s and c.conname = %s",
        [schema, constraint],
    ).fetchone()
    assert row is not None, f"there is no constraint {constraint}"
    return row[0]  # type: ignore[no-any-return]


def words_of(check: str) -> set[str]:
    return set(re.findall(r"'(\w+)'::text", check))


def test_the_columns_are_the_fields_of_a_record_in_their_order(postgres_control: Control, empty_schema: str) -> None:
    assert columns_of(postgres_control, empty_schema, "executions") == list(Execution._fields)


@pytest.mark.parametrize(
    ("column", "enum"), [("kind", Kind), ("status", Status), ("phase", Phase), ("close_status", CloseStatus)]
)
def test_a_domain_lists_the_words_of_its_enum(
    column: str, enum: type[StrEnum], postgres_control: Control, empty_schema: str
) -> None:
    assert words_of(check_of(postgres_control, empty_schema, f"executions_{column}")) == set(enum)


@pytest.mark.parametrize(("table", "record"), [("jobs", Job), ("timers", StoredTimer)])
def test_the_columns_of_jobs_and_timers_are_their_fields_in_their_order(
    table: str, record: Any, postgres_control: Control, empty_schema: str
) -> None:
    fields = ["interval_seconds" if field == "interval" else field for field in record._fields]
    assert columns_of(postgres_control, empty_schema, table) == fields
    text = load()["list_timers" if table == "timers" else "lock_job"]
    assert re.findall(rf"\b{table[0]}\.(\w+)", text[: text.index(" from ")]) == fields


@pytest.mark.parametrize(
    ("table", "record"),
    [("history", Entry), ("messages", Message), ("published", Published), ("chunks", StoredChunk)],
)
def test_the_columns_of_what_a_workflow_keeps_are_the_fields_in_their_order(
    table: str, record: Any, postgres_control: Control, empty_schema: str
) -> None:
    assert columns_of(postgres_control, empty_schema, table) == ["execution_id", *record._fields]


@pytest.mark.parametrize(
    ("constraint", "enum"),
    [
        ("messages_kind", MessageKind),
        ("jobs_kind", JobKind),
        ("jobs_status", JobStatus),
        ("jobs_turn_cause", TurnCause),
        ("timers_anchor", Anchor),
    ],
)
def test_a_check_of_another_table_lists_the_words_of_its_enum(
    constraint: str, enum: type[StrEnum], postgres_control: Control, empty_schema: str
) -> None:
    assert words_of(check_of(postgres_control, empty_schema, constraint)) == set(enum)


def test_the_doctor_lists_the_finished_statuses() -> None:
    listed = re.search(r"e\.status in \(\s*('completed'[^)]*)\)", load()["defects"])

    assert listed is not None
    assert set(re.findall(r"'(\w+)'", listed[1])) == FINISHED


def test_the_check_of_priorities_has_their_bounds(postgres_control: Control, empty_schema: str) -> None:
    check = check_of(postgres_control, empty_schema, "executions_priority")

    assert [int(bound) for bound in re.findall(r"-?\d+", check)] == [PRIORITIES[0], PRIORITIES[-1]]


@pytest.mark.parametrize(
    ("statement", "prefix"),
    [
        ("enqueue", ""),
        ("settle_and_spawn", "child_"),
        ("settle_and_note", "child_"),
        ("spawn_from_turns", "child_"),
    ],
)
def test_an_insert_passes_the_fields_of_a_new_execution_in_their_order(statement: str, prefix: str) -> None:
    text = load()[statement]
    passed = re.findall(r"%\((\w+)\)s", text[text.index("insert into") :] if prefix else text)
    named = re.findall(r"\((id, (?:root_id|parent_id), [\w, ]+)\)", text.replace("( ", "(").replace(" )", ")"))

    # The root of a child is that of its parent, which the statement has at hand.
    fields = [field for field in NewExecution._fields if not prefix or field != "root_id"]
    expected = [prefix + field for field in fields]

    assert [name for name in passed if name in expected] == expected
    assert ", ".join(fields) in named


def test_an_insert_of_one_row_passes_the_same_fields_and_sets_the_same_columns() -> None:
    one, many = (re.sub(r"\s+", " ", load()[name]) for name in ("enqueue_one", "enqueue"))
    columns = re.compile(r"insert into /\*schema\*/executions \( ([\w, ]+) \) select (.*) from ")

    values = [found[2] for found in (columns.search(one), columns.search(many)) if found is not None]
    as_in_many = re.sub(r"%\((?!record_version)(\w+)\)s::(double precision|\w+)", r"i.\1", values[0])

    assert columns.search(one)[1] == columns.search(many)[1]  # type: ignore[index]
    assert as_in_many == values[1]


@pytest.mark.parametrize(("statement", "prefix"), [("emit", ""), ("settle_and_note", "note_")])
def test_an_insert_of_notices_passes_their_fields_in_their_order(statement: str, prefix: str) -> None:
    expected = [prefix + field for field in NewNotice._fields]
    text = load()[statement]

    assert [name for name in re.findall(r"%\((\w+)\)s", text) if name in expected][-len(expected) :] == expected
    assert ", ".join(NewNotice._fields) in text


def test_a_taken_notice_has_its_fields_in_their_order() -> None:
    assert re.findall(r"o\.(\w+)", load()["first_notices"].split(" from ")[0]) == list(Notice._fields)


def test_the_claim_gives_the_fields_of_a_turn_in_their_order() -> None:
    text = load()["claim"]
    given = re.findall(r"(?: e\.| as )(\w+)(?=,|$)", text[text.index(" returning ") :])

    assert given == [*Claimed._fields, "due"]


def test_the_claim_from_pools_gives_the_fields_of_a_turn_and_the_wait() -> None:
    text = load()["claim_pooled"]
    columns = text[: text.index(" from /*schema*/claim_pools")]
    given = re.findall(r"(?:^select c\.|, c\.|as )(\w+)(?=,|$)", columns)

    assert given == [*Claimed._fields, "wait"]


def test_the_columns_of_a_pool_are_the_fields_of_its_configuration(
    postgres_control: Control, empty_schema: str
) -> None:
    assert columns_of(postgres_control, empty_schema, "pools")[: len(PoolConfig._fields)] == list(PoolConfig._fields)
