"""No plan reads the whole table: 100,000 rows, in every mix, under every planner setting and old statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, Final, NamedTuple

import psycopg
import pytest

from durable.execution import CloseStatus, Phase, Settlement, Status
from durable.storage import ExecutionFilter
from durable.testing import Maker
from storage_postgres import verbs
from storage_postgres.migrate import migrate
from storage_postgres.plan import Plan
from tests.support.crowd import Crowd, Group, Statistics, fill
from tests.support.plans import Explained, explain

SIZE: Final = 100_000
MIXES: Final = {
    "all ready": {"ready": Group(SIZE, Status.READY)},
    "all finished": {"finished": Group(SIZE, Status.COMPLETED, has_keys=True)},
    "mixed": {
        "parents": Group(1_000, Status.WAITING_FOR_CHILDREN, active_children=1),
        "children": Group(10_000, Status.COMPLETED, parents="parents"),
        "closes": Group(500, Status.CANCELLED, close_status=CloseStatus.READY, active_children=1),
        "closing": Group(500, Status.CANCELLED, close_status=CloseStatus.CLOSING, active_children=1),
        "orphans": Group(500, Status.READY, parents="closing", task_name="child"),
        "finished": Group(76_500, Status.COMPLETED, has_keys=True),
        "cancelled": Group(1_000, Status.CANCELLED, needs_cancel=True),
        "sleepers": Group(500, Status.WAITING),
        "ready": Group(5_500, Status.READY),
        "future": Group(3_000, Status.READY, seconds=3600),
        "late": Group(500, Status.RUNNING, parents="parents"),
        "running": Group(500, Status.RUNNING, seconds=3600),
    },
}  # fmt: skip
TABLES: Final = [
    ("all ready", Statistics.TRUE),
    ("all ready", Statistics.EMPTY),
    ("all finished", Statistics.TRUE),
    ("mixed", Statistics.TRUE),
    ("mixed", Statistics.NONE_RUNNING),
    ("mixed", Statistics.EMPTY),
]
SETTINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "default": {},
    "loops": dict(zip(("enable_hashjoin", "enable_mergejoin", "enable_sort", "enable_material"), repeat("off"))),
    "no loops": {"enable_nestloop": "off"},
    "generic": {"plan_cache_mode": "force_generic_plan"},
}


class Table(NamedTuple):
    connection: psycopg.Connection[Any]
    crowd: Crowd

    def explain(self, plan: Plan[Any], settings: str) -> Explained:
        return explain(self.connection, self.crowd.schema, next(plan), SETTINGS[settings])


@pytest.fixture(scope="module", params=TABLES, ids=lambda table: f"{table[0]}, analysed {table[1]}")
def table(
    request: pytest.FixtureRequest, postgres_dsn: str, schema_names: Iterator[str]
) -> Iterator[Table]:
    mix, statistics = request.param
    schema = next(schema_names)
    with psycopg.connect(postgres_dsn, autocommit=True, options="-c jit=off") as connection:
        migrate(connection, schema)
        yield Table(connection, fill(connection, schema, MIXES[mix], statistics))


MAKE: Final = Maker(series=7, task_name="task")
ERROR: Final = '{"type": "lost", "message": ""}'


def ends(ids: Sequence[str]) -> list[Settlement]:
    return [Settlement(id_, 1, Status.COMPLETED, Phase.RUN, 1, 0, 0, 0.0, "1", None, None, None) for id_ in ids]


def held(crowd: Crowd, count: int) -> list[tuple[str, int]]:
    return [(id_, 1) for id_ in [*crowd.ids("running", count // 2), *crowd.ids("late", count // 2)]]


def known(crowd: Crowd, count: int) -> list[str]:
    """Members of every group, in equal parts."""
    return [id_ for name in crowd.names for id_ in crowd.ids(name, count // len(crowd.names))]


class Case(NamedTuple):
    """A verb as the executor calls it, and how many executions it takes at most."""

    plan: Callable[[Crowd], Plan[Any]]
    takes: int


CASES: Final[Mapping[str, Case]] = {
    "claim": Case(
        lambda crowd: verbs.claim(
            executor_id="executor-b", queues=["default", "other"], task_names=["task", "other"], limit=100, lease=15
        ),
        100,
    ),
    "renew": Case(lambda crowd: verbs.renew(held(crowd, 100), lease=15), 100),
    "heartbeat": Case(lambda crowd: verbs.heartbeat([(*pair, "1") for pair in held(crowd, 100)]), 100),
    "settle": Case(lambda crowd: verbs.settle(ends([id_ for id_, _ in held(crowd, 100)])), 100),
    "settled": Case(lambda crowd: verbs.settled(held(crowd, 100)), 100),
    "children": Case(lambda crowd: verbs.children(crowd.ids("parents", 10)), 110),
    "expire_waits": Case(lambda crowd: verbs.expire_waits(limit=50, error=ERROR), 50),
    "recover": Case(lambda crowd: verbs.recover(limit=50, lost_error=ERROR, poisoned_error=ERROR), 50),
    "cancel": Case(lambda crowd: verbs.cancel(known(crowd, 120), reason="cancelled", error=ERROR), 120),
    "pick_up_cancelled": Case(lambda crowd: verbs.pick_up_cancelled(executor_id="executor-a", limit=50), 50),
    "redrive": Case(lambda crowd: verbs.redrive(known(crowd, 120)), 120),
    "claim_closes": Case(lambda crowd: verbs.claim_closes(limit=50, lease=15), 50),
    "close_trees": Case(lambda crowd: verbs.close_trees(crowd.ids("closing", 50), reason="closed", error=ERROR), 50),
    "recover_closes": Case(lambda crowd: verbs.recover_closes(limit=50), 50),
    "get": Case(lambda crowd: verbs.get(known(crowd, 120)), 120),
    "finished": Case(lambda crowd: verbs.finished(known(crowd, 120)), 120),
    "existing": Case(lambda crowd: verbs.existing(known(crowd, 120)), 120),
    "search": Case(lambda crowd: verbs.search(ExecutionFilter(), limit=100, before=crowd.ids("ready", 50)[-1:] and crowd.ids("ready", 50)[-1] or None), 100),
    "get_sleeping": Case(lambda crowd: verbs.get_sleeping("task", "sleeper 1"), 1),
    "enqueue": Case(lambda crowd: verbs.enqueue(MAKE.rows(50), all_or_nothing=False), 50),
    "enqueue": Case(lambda crowd: verbs.enqueue([*MAKE.rows(50), *(MAKE.row(idempotency_key=f"key {n}") for n in range(50))], all_or_nothing=False), 100),
}


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("case", CASES)
def test_x(case: str, settings: str, table: Table) -> None:
    found = table.explain(CASES[case].plan(table.crowd), settings)
    print(case, settings, found.buffers, found.rows_examined, found.rows_updated, found.rows, found.sequential_scans)
