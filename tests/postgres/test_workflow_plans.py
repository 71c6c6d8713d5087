"""The statements of workflows find what they are asked for by id, whatever the planner believes of the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import psycopg
import pytest

from durable.execution import Phase, Settlement, Status
from durable.testing import Maker
from durable.workflow_rows import GIVEN_ID, REMEMBERED_FOR, Checkpoint, MessageKind, NewEntry, NewMessage, Suspension
from storage_postgres import workflow_rows as to
from storage_postgres.arrays import plain
from storage_postgres.migrate import migrate
from storage_postgres.plan import Query
from storage_postgres.rows import new_columns
from storage_postgres.statements import render
from storage_postgres.workflow_rows import Part
from tests.support.crowd import Crowd, Group, Statistics, fill
from tests.support.plans import Explained, explain

GROUPS: Final = {
    "finished": Group(50_000, Status.COMPLETED),
    "suspended": Group(5_000, Status.WAITING),
    "parents": Group(500, Status.RUNNING, seconds=3600, active_children=2),
    "children": Group(1_000, Status.RUNNING, seconds=3600, parents="parents"),
}
TABLES: Final = ("executions", "history", "messages", "published", "chunks", "approvals")
KEPT: Final = (
    "update /*schema*/executions set kind = 'workflow', message_count = 1",
    "insert into /*schema*/history select e.id, n, 'step', 'k', '1', null, null, e.created_at"
    " from /*schema*/executions as e cross join generate_series(1, 3) as n",
    "insert into /*schema*/messages select e.id, 1, 'signal', 'name', '1', 'x', e.created_at"
    " from /*schema*/executions as e",
    "insert into /*schema*/published select e.id, 'k', '1', 1, e.created_at from /*schema*/executions as e",
    "insert into /*schema*/chunks select e.id, 1, '1', e.created_at from /*schema*/executions as e",
    # Those of what has finished are granted, but for a few; those of what waits are pending.
    "insert into /*schema*/approvals (id, execution_id, key, name, token_hash, status, created_at, decided_at)"
    " select e.id, e.id, 'k', 'refund', e.id::text, s.status, e.created_at,"
    " case when s.status <> 'pending' then e.created_at end"
    " from /*schema*/executions as e cross join lateral (select case when e.status <> 'completed'"
    " or mod(abs(hashtext(e.id::text)), 1000) = 0 then 'pending' else 'granted' end as status) as s",
)
SETTINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "default": {},
    "loops only": dict.fromkeys(("enable_hashjoin", "enable_mergejoin", "enable_sort", "enable_material"), "off"),
    "no loops": {"enable_nestloop": "off"},
    "generic": {"plan_cache_mode": "force_generic_plan"},
}
MAKE: Final = Maker(series=9, task_name="task")
COUNT: Final = 100


class Table(NamedTuple):
    connection: psycopg.Connection[Any]
    crowd: Crowd


@pytest.fixture(scope="module", params=[Statistics.TRUE, Statistics.EMPTY], ids=lambda when: f"analysed {when}")
def table(request: pytest.FixtureRequest, postgres_dsn: str, schema_names: Iterator[str]) -> Iterator[Table]:
    schema = next(schema_names)
    with psycopg.connect(postgres_dsn, autocommit=True, options="-c jit=off -c enable_bitmapscan=off") as connection:
        migrate(connection, schema)
        crowd = fill(connection, schema, GROUPS, request.param)
        for name in TABLES[1:]:
            connection.execute(render(f"alter table /*schema*/{name} set (autovacuum_enabled = off)", schema))
        for statement in KEPT:
            connection.execute(render(statement, schema))
        for name in TABLES if request.param is Statistics.TRUE else ():
            connection.execute(render(f"analyze /*schema*/{name}", schema))
        yield Table(connection, crowd)


def entry(seq: int) -> NewEntry:
    return NewEntry(seq, "step", f"k#{seq}", "1", None, None)


def parts(crowd: Crowd) -> list[Part]:
    """Running workflows with one new entry each; half of them have parents, or are the parents of those."""
    ids = [*crowd.ids("parents", COUNT // 2), *crowd.ids("children", COUNT // 2)]
    return [(id_, 1, Checkpoint(id_, 1, (entry(4),), values=(("k", "2"),), chunks=("2",))) for id_ in ids]


def turns(crowd: Crowd) -> list[tuple[str, int]]:
    return [(id_, fence) for id_, fence, _ in parts(crowd)]


def ends(crowd: Crowd) -> list[Settlement]:
    """Ends of children, and suspensions of parents that wait for them."""
    return [
        Settlement(
            id_, 1, Status.WAITING if id_ in crowd.ids("parents", COUNT) else Status.COMPLETED, Phase.RUN, 0, 0, 0,
            0.0, None, None, None, None, workflow=Suspension(wake_at_children=0),
        )
        for id_, _ in turns(crowd)
    ]  # fmt: skip


def messages(crowd: Crowd) -> Sequence[NewMessage]:
    ids = [*crowd.ids("suspended", COUNT // 2), *crowd.ids("children", COUNT // 2)]
    return [NewMessage(id_, MessageKind.SIGNAL, "name", "1", "y") for id_ in ids]


def spawning(crowd: Crowd) -> Query:
    parents = crowd.ids("parents", COUNT)
    rows = [MAKE.row(parent_id=id_, root_id=id_, child_index=9, depth=1) for id_ in parents]
    return Query("spawn_from_turns", {"id": plain(parents), "children": plain([1] * len(parents)),
                                      **new_columns(rows, "child_")})  # fmt: skip


def own_children(crowd: Crowd) -> Query:
    children = crowd.ids("children", COUNT)
    return Query("own_children", {"child": plain(children), "parent": plain(crowd.ids("parents", COUNT))})


def approvals(status: str | None, *, kept_as: str | None = None, before: str | None = None) -> Query:
    params = {"before": before, "status": status, "task_name": None, "limit": COUNT}
    return (
        Query("list_approvals_kept_as", params | {"kept_as": kept_as}) if kept_as else Query("list_approvals", params)
    )


QUERIES: Final[Mapping[str, Callable[[Crowd], Query]]] = {
    "hold_executions": lambda crowd: Query("hold_executions", {
        "ids": plain(crowd.ids("suspended", COUNT // 2)), "children": plain(crowd.ids("children", COUNT // 2)),
        "lock_timeout": None}),
    "open_turns": lambda crowd: Query("open_turns", to.turn_columns(parts(crowd))),
    "checkpoint": lambda crowd: Query("checkpoint", to.checkpoint_columns(turns(crowd), parts(crowd))),
    "forgive_deliveries": lambda crowd: Query("forgive_deliveries", {
        "id": plain(id_ for id_, _ in turns(crowd)), "fence": plain([1] * COUNT)}),
    "spawn_from_turns": spawning,
    "publish": lambda crowd: Query("publish", to.value_columns(parts(crowd))),
    "append_chunks": lambda crowd: Query("append_chunks", to.chunk_columns(parts(crowd))),
    "send_messages": lambda crowd: Query("send_messages", to.message_columns(messages(crowd))),
    "own_children": own_children,
    "end_workflow_turns": lambda crowd: Query("end_workflow_turns", to.turn_end_columns(ends(crowd))),
    "forget_history": lambda crowd: Query("forget_history", {
        "id": plain(crowd.ids("suspended", COUNT)), "seen_messages": plain([1] * COUNT),
        "kept_id": plain([]), "kept_number": plain([]), "given": GIVEN_ID,
        "remembered_for": REMEMBERED_FOR.total_seconds()}),
    "histories": lambda crowd: Query("histories", {
        "id": plain(crowd.ids("suspended", COUNT)), "seq": plain([1] * COUNT), "number": plain([0] * COUNT)}),
    "published_values": lambda crowd: Query("published_values", {
        "id": crowd.ids("suspended", 1)[0], "keys": None}),
    "stored_chunks": lambda crowd: Query("stored_chunks", {
        "id": crowd.ids("suspended", 1)[0], "after": 0, "limit": COUNT}),
    "hold_source": lambda crowd: Query("hold_source", {"id": crowd.ids("finished", 1)[0]}),
    "copy_history": lambda crowd: Query("copy_history", {
        "id": MAKE.id(), "source": crowd.ids("finished", 1)[0], "before": 2,
        "left_out": plain([]), "seq": plain([]), "output": plain([]), "detail": plain([])}),
    "copy_chunks": lambda crowd: Query("copy_chunks", {
        "id": MAKE.id(), "source": crowd.ids("finished", 1)[0], "before": 2}),
    "copy_values": lambda crowd: Query("copy_values", {
        "id": MAKE.id(), "source": crowd.ids("finished", 1)[0]}),
    "retire": lambda _: Query("retire", {
        "older_than": 0.0, "limit": COUNT, "after": "00000000-0000-0000-0000-000000000000"}),
    "get_approval": lambda crowd: Query("get_approval", {"id": None, "token_hash": crowd.ids("suspended", 1)[0]}),
    "list_approvals": lambda _: approvals(None),
    "list_approvals that are granted": lambda _: approvals("granted", kept_as="granted"),
    "list_approvals that wait": lambda _: approvals("pending", kept_as="pending"),
    "list_approvals that wait, a page": lambda crowd: approvals(
        "pending", kept_as="pending", before=crowd.ids("suspended", COUNT)[-1]),
    "wait_for_asked": lambda crowd: Query("wait_for_asked", {"ids": plain(crowd.ids("finished", COUNT))}),
}  # fmt: skip


def whole_reads(found: Explained) -> list[str]:
    """The tables that were read from end to end."""
    return [
        node["Relation Name"]
        for node in found.nodes
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] in TABLES and node["Actual Loops"]
    ]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", QUERIES)
def test_finds_what_is_named_by_id(name: str, settings: str, table: Table) -> None:
    found = explain(table.connection, table.crowd.schema, QUERIES[name](table.crowd), SETTINGS[settings])

    assert whole_reads(found) == []
    assert found.rows_examined <= 50 + 4 * COUNT
    assert found.buffers <= 200 + 50 * COUNT
