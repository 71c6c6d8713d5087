"""No plan reads the whole table: 100,000 rows in several mixes, under many planner settings and statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import psycopg
import pytest

from durable.alike import Alike
from durable.execution import CloseStatus, Phase, Settlement, Status
from durable.notice import NewNotice
from durable.testing import Maker
from storage_postgres import cancel_verbs, verbs, wake_verbs
from storage_postgres.arrays import plain
from storage_postgres.migrate import migrate
from storage_postgres.plan import Plan, Query
from storage_postgres.statements import render
from tests.support.crowd import Crowd, Group, Statistics, fill
from tests.support.plans import Explained, explain

SIZE: Final = 100_000
MIXES: Final[Mapping[str, dict[str, Group]]] = {
    "all ready": {"ready": Group(SIZE, Status.READY)},
    "all finished": {"finished": Group(SIZE, Status.COMPLETED, has_keys=True)},
    "mixed": {
        "parents": Group(1_000, Status.WAITING_FOR_CHILDREN, active_children=1),
        "children": Group(10_000, Status.COMPLETED, parents="parents"),
        "closes": Group(500, Status.CANCELLED, close_status=CloseStatus.READY, active_children=1),
        "closing": Group(500, Status.CANCELLED, close_status=CloseStatus.CLOSING, active_children=1),
        "left over": Group(500, Status.READY, parents="closing"),
        "finished": Group(77_400, Status.COMPLETED, has_keys=True),
        "cancelled": Group(100, Status.CANCELLED, needs_cancel=True),
        "sleepers": Group(500, Status.WAITING),
        "ready": Group(5_500, Status.READY),
        "future": Group(3_000, Status.READY, seconds=3600),
        "late": Group(500, Status.RUNNING, parents="parents"),
        "running": Group(500, Status.RUNNING, seconds=3600),
    },
}
TABLES: Final = [
    ("all ready", Statistics.TRUE),
    ("all ready", Statistics.EMPTY),
    ("all finished", Statistics.TRUE),
    ("all finished", Statistics.BUSY),
    ("mixed", Statistics.TRUE),
    ("mixed", Statistics.NONE_RUNNING),
    ("mixed", Statistics.EMPTY),
    ("mixed", Statistics.BUSY),
]
SETTINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "default": {},
    "loops only": dict.fromkeys(("enable_hashjoin", "enable_mergejoin", "enable_sort", "enable_material"), "off"),
    "no loops": {"enable_nestloop": "off"},
    "generic": {"plan_cache_mode": "force_generic_plan"},
}
WAKE_UPS: Final = """
insert into /*schema*/wakeups (task_name, sleeping_id, created_at)
select e.task_name, e.sleeping_id, e.created_at from /*schema*/executions as e where e.status = 'waiting' limit 100
"""
MAKE: Final = Maker(series=7, task_name="task")
ALIKE: Final = Alike(MAKE.row(), [MAKE.id() for _ in range(50)], ["1"] * 50)
ERROR: Final = '{"type": "lost", "message": ""}'
LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)
AHEAD: Final = datetime(2100, 1, 1, tzinfo=UTC)


class Table(NamedTuple):
    connection: psycopg.Connection[Any]
    crowd: Crowd


@pytest.fixture(scope="module", params=TABLES, ids=lambda table: f"{table[0]}, analysed {table[1]}")
def table(request: pytest.FixtureRequest, postgres_dsn: str, schema_names: Iterator[str]) -> Iterator[Table]:
    mix, statistics = request.param
    schema = next(schema_names)
    with psycopg.connect(postgres_dsn, autocommit=True, options="-c jit=off -c enable_bitmapscan=off") as connection:
        migrate(connection, schema)
        crowd = fill(connection, schema, MIXES[mix], statistics)
        connection.execute(render(WAKE_UPS, schema))
        yield Table(connection, crowd)


def some(crowd: Crowd, count: int) -> list[str]:
    """Members of every group, in equal parts."""
    return [id_ for name in crowd.names for id_ in crowd.ids(name, count // len(crowd.names))]


def turns(crowd: Crowd, count: int) -> list[tuple[str, int]]:
    """Turns with and without parents; stale ones where nothing runs."""
    half = count // 2
    running = [*crowd.ids("late", half), *crowd.ids("running", half)]
    return [(id_, 1) for id_ in running or some(crowd, count)]


def ends(pairs: Sequence[tuple[str, int]]) -> list[Settlement]:
    return [
        Settlement(id_, fence, Status.COMPLETED, Phase.RUN, 1, 0, 0, 0.0, "1", None, None, None) for id_, fence in pairs
    ]


def bare(settlements: Sequence[Settlement]) -> list[Settlement]:
    return [item._replace(is_bare=True) for item in settlements]


def noted(settlements: Sequence[Settlement]) -> list[Settlement]:
    """The same, with an event that two subscribers want."""
    return [
        item._replace(
            notices=tuple(
                NewNotice(name, MAKE.id(), "execution.completed", item.id, "task", "task", None, "{}", None, None)
                for name in ("one", "two")
            )
        )
        for item in settlements
    ]


def first(plan: Plan[Any]) -> Query:
    return next(plan)


def second(plan: Plan[Any]) -> Query:
    """What a plan asks when its first question found nothing."""
    next(plan)
    return plan.send([])


def page_of_retire() -> Query:
    """The page itself, which follows what is forgotten with it."""
    plan = verbs.retire(older_than=0.0, limit=100, after=None)
    assert [next(plan).name, plan.send([]).name] == ["retire_wakeups", "retire_jobs"]
    return plan.send([(0,)])


# What takes from a queue of any kind: the group it takes from, how many, and the query.
TAKERS: Final[Mapping[str, tuple[str, int, Query]]] = {
    "claim": ("ready", 100, first(verbs.claim(
        executor_id="executor-b", queues=["default", "other"], task_names=["task", "other"], limit=100, lease=15))),
    "recover": ("late", 50, first(verbs.recover(limit=50, lost_error=ERROR, poisoned_error=ERROR))),
    "expire_waits": ("sleepers", 50, first(wake_verbs.expire_waits(limit=50, error=ERROR))),
    "apply_wakeups": ("sleepers", 50, first(wake_verbs.apply_wakeups(limit=50))),
    "pick_up_cancelled": ("cancelled", 50, first(verbs.pick_up_cancelled(executor_id="executor-a", limit=50))),
    "claim_closes": ("closes", 50, first(verbs.claim_closes(limit=50, lease=15))),
    "recover_closes": ("closing", 50, first(verbs.recover_closes(limit=50))),
}  # fmt: skip

# What is asked by id, and how many executions that is; of 100 turns that end, 50 have parents to be told.
BY_ID: Final[Mapping[str, tuple[int, Callable[[Crowd], Query]]]] = {
    "renew": (100, lambda crowd: first(verbs.renew(turns(crowd, 100), lease=15))),
    "heartbeat": (100, lambda crowd: first(verbs.heartbeat([(*pair, "1") for pair in turns(crowd, 100)]))),
    "settle": (150, lambda crowd: first(verbs.settle(ends(turns(crowd, 100))))),
    "settle_bare": (100, lambda crowd: first(verbs.settle(bare(ends(turns(crowd, 100)))))),
    "settle_and_note": (150, lambda crowd: first(verbs.settle(noted(ends(turns(crowd, 100)))))),
    "settled": (100, lambda crowd: first(verbs.settled(turns(crowd, 100)))),
    "children": (1100, lambda crowd: first(verbs.children(crowd.ids("parents", 100) or some(crowd, 100)))),
    "cancel": (120, lambda crowd: first(cancel_verbs.cancel(
        some(crowd, 120), reason="cancelled", error=ERROR, may_finish=True))),
    "claim_callback": (1, lambda _: first(verbs.claim_callback(
        MAKE.id(), executor_id="executor-b", lease=15))),
    "cancelled_among": (100, lambda crowd: Query("cancelled_among", {"ids": plain(some(crowd, 100))})),
    "retire": (200, lambda _: page_of_retire()),
    "redrive": (120, lambda crowd: first(verbs.redrive(some(crowd, 120)))),
    "close_trees": (100, lambda crowd: first(cancel_verbs.close_trees(
        crowd.ids("closing", 50) or some(crowd, 50), reason="closed", error=ERROR))),
    "get": (120, lambda crowd: first(verbs.get(some(crowd, 120)))),
    "finished": (120, lambda crowd: first(verbs.finished(some(crowd, 120)))),
    "existing": (120, lambda crowd: first(verbs.existing(some(crowd, 120)))),
    "duties": (1, lambda _: first(verbs.duties())),
    "next_due": (2, lambda _: first(verbs.next_due(queues=["default", "other"], task_names=["task", "other"]))),
    "next_start": (2, lambda _: first(verbs.next_start(
        queues=["default", "other"], pools=["emails"], task_names=["task", "other"], after=LONG_AGO, within=3.0))),
    "get_sleeping": (1, lambda _: first(wake_verbs.get_sleeping("task", "sleeper 1"))),
    "enqueue": (50, lambda _: first(verbs.enqueue([*MAKE.rows(49), MAKE.row(queue="other")], all_or_nothing=False))),
    "enqueue_alike": (50, lambda _: first(verbs.enqueue_alike(ALIKE))),
    "existing_rows": (50, lambda _: second(verbs.enqueue(
        [MAKE.row(idempotency_key=f"key {number}") for number in range(50)], all_or_nothing=False))),
}  # fmt: skip


def assert_bounded(found: Explained, count: int) -> None:
    """Work in proportion to the executions taken or named; a scan of the table is 4,500 pages and 100,000 rows."""
    assert found.sequential_scans == []
    assert found.rows_examined <= 50 + 2 * count
    assert found.buffers <= 100 + 30 * count


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", TAKERS)
def test_takes_exactly_what_it_may_and_looks_at_little_else(name: str, settings: str, table: Table) -> None:
    group, limit, query = TAKERS[name]

    found = explain(table.connection, table.crowd.schema, query, SETTINGS[settings])

    assert found.rows_updated == (limit if group in table.crowd.names else 0)
    assert_bounded(found, limit)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", BY_ID)
def test_finds_what_is_named_by_id(name: str, settings: str, table: Table) -> None:
    count, query = BY_ID[name]

    found = explain(table.connection, table.crowd.schema, query(table.crowd), SETTINGS[settings])

    assert_bounded(found, count)


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_batch_of_what_is_unfinished_reads_little_else(settings: str, table: Table) -> None:
    """Where nearly all of the table is unfinished, reading it from its beginning up to the limit is right too."""
    query = first(
        cancel_verbs.cancel_all(
            before=AHEAD, queue=None, task_name=None, limit=50, reason="all", error=ERROR, may_finish=True
        )
    )

    found = explain(table.connection, table.crowd.schema, query, SETTINGS[settings])

    assert found.rows_examined <= 50 + 2 * 50
    assert found.buffers <= 100 + 30 * 50
