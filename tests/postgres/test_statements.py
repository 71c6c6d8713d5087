"""Every statement of the package: it fits the migrated schema, says what it does, and stays cheap to send."""

from __future__ import annotations

import re
from typing import Any, Final

import psycopg
import pytest
from psycopg import _queries, sql

from storage_postgres.statements import SCHEMA_TAG, Statements, load
from tests.support.statements import NAMES, Section, numbered, sections, uncast_parameters

LONG_SCHEMA: Final = "s" * 32
TOO_LONG: Final = {
    "settle_and_spawn": "it carries the columns of two statements, and beside the inserts it makes 0.1 ms is little",
    "commit_jobs": "it writes all that the ends of turns mean to their jobs, once for a batch of turns",
    "settle_and_note": "the same, and only where somebody has subscribed to events",
}
SECTIONS: Final = sections()
WRITERS: Final = [section for section in SECTIONS if section.writes]


@pytest.mark.parametrize("name", NAMES)
def test_fits_the_empty_schema(name: str, postgres_control: psycopg.Connection[Any], empty_schema: str) -> None:
    text, _ = numbered(name, empty_schema)
    with postgres_control.transaction(force_rollback=True):
        postgres_control.execute("deallocate all")
        postgres_control.execute(sql.SQL("prepare {} as {}").format(sql.Identifier(f"fits_{name}"), text))


@pytest.mark.parametrize("name", NAMES)
def test_casts_every_parameter(name: str) -> None:
    """An uncast one would take its type from where it stands first, and None would have none."""
    assert uncast_parameters(name) == []


@pytest.mark.parametrize("name", NAMES)
def test_names_every_table_and_function_of_ours_with_its_schema(name: str) -> None:
    names = "executions|wakeups|executors|jobs|timers|inbox|outbox|deliveries|clock_now|is_payload|insert_turns"
    names += "|events_due_at|set_timer|cancel_timers|pools|pool_ends|pool_counts|pool_reports"
    names += "|history|messages|published|chunks|goes_on"
    ours = rf"(?<!\*/)\b({names})\b(?= as |\(| \()"
    assert re.findall(ours, load()[name]) == []


@pytest.mark.parametrize("name", NAMES)
def test_is_short_enough_for_the_drivers_cache(name: str) -> None:
    """psycopg converts a longer statement anew at every call, which costs up to 0.1 ms."""
    is_short = len(Statements(LONG_SCHEMA)[name]) <= _queries.MAX_CACHED_STATEMENT_LENGTH

    assert is_short is (name not in TOO_LONG), TOO_LONG.get(name, "split it, as `settle` is")
    assert len(numbered(name, LONG_SCHEMA).names) <= _queries.MAX_CACHED_STATEMENT_PARAMS


def test_the_sources_and_the_loader_agree_on_the_names() -> None:
    named = [section.name for section in SECTIONS if section.kind == "name"]

    assert sorted(named) == NAMES
    assert len(named) == len(set(named))


def test_every_fragment_is_included_somewhere() -> None:
    fragments = {section.name for section in SECTIONS if section.kind == "fragment"}
    included = {name for section in SECTIONS for name in re.findall(r"/\*include (\w+)\*/", section.body)}

    assert fragments == included


def test_nothing_of_the_templates_is_left_in_a_rendered_statement() -> None:
    rendered = Statements("durable").by_name

    assert [name for name, text in rendered.items() if SCHEMA_TAG.encode() in text or b"/*include" in text] == []


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_says_what_it_does(section: Section) -> None:
    assert section.header.startswith("-- "), f"{section.name} in {section.file} has no comment below its name"


@pytest.mark.parametrize("section", WRITERS, ids=lambda section: section.name)
def test_a_writer_says_what_it_locks_and_by_which_index(section: Section) -> None:
    assert re.search(r"\block", section.header, re.IGNORECASE), f"{section.name} does not say what it locks"
    assert re.search(r"Index:", section.header), f"{section.name} does not say by which index"


@pytest.mark.parametrize("name", NAMES)
def test_gives_rows(name: str, postgres_control: psycopg.Connection[Any], empty_schema: str) -> None:
    """The drivers fetch after every statement: in a pipeline nothing else tells them that it has run."""
    text, _ = numbered(name, empty_schema)
    prepared = postgres_control.pgconn.prepare(b"gives_rows", text.as_bytes(postgres_control))
    assert prepared.status == psycopg.pq.ExecStatus.COMMAND_OK, prepared.error_message

    described = postgres_control.pgconn.describe_prepared(b"gives_rows")
    postgres_control.execute("deallocate gives_rows")

    assert described.nfields > 0
