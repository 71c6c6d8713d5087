"""durable pools: what it shows, for people and for programs."""

from __future__ import annotations

from durable.pool_rows import PoolConfig
from durable.transitions import complete, fail
from tests.cli.stage import LEASE, Stage

ERROR = '{"type": "ValueError", "message": "no"}'


def fill(stage: Stage) -> None:
    """Three that ended, one of them for good, one that waits and one for later; and a pool that is paused."""
    stage.storage.ensure_pools([
        PoolConfig("emails", 5, 1, True, 100, 60.0, False), PoolConfig("idle", None, None, True, None, None, True),
    ]).run()  # fmt: skip
    for _ in range(3):
        stage.enqueue(queue="emails", is_pooled=True)
    stage.advance(2)
    one, other, third = stage.storage.claim_pooled(
        executor_id="executor-a", pools=["emails"], task_names=["task"], limit=9, lease=LEASE
    ).run().claimed  # fmt: skip
    stage.storage.settle([complete(one, "1"), complete(other, "1"), fail(third, ERROR, retry_delay=None)]).run()
    stage.enqueue(queue="emails", is_pooled=True)
    stage.enqueue(queue="emails", is_pooled=True, delay=600.0)


def test_pools_gives_limits_and_reports_to_programs(stage: Stage) -> None:
    fill(stage)
    emails, idle = stage.run("pools", "--json").json["pools"]
    numbers = {
        "backlog": 1, "scheduled": 1, "running": 0, "completed": 2, "failed": 1, "cancelled": 0, "attempts": 3,
        "failures": 1, "retries": 0, "failure_rate": 0.3333, "permanent_failure_rate": 0.3333, "start_lag_mean": 2.0,
        "start_lag_max": 2.0,
    }  # fmt: skip
    assert emails == {
        "name": "emails", "max_parallelism": 5, "max_per_key": 1, "keep_order": True, "rate_tokens": 100,
        "rate_period": 60.0, "is_paused": False, "over": 3600.0, **numbers, "tasks": {"task": numbers},
    }  # fmt: skip
    assert (idle["name"], idle["is_paused"], idle["backlog"], idle["tasks"]) == ("idle", True, 0, {})


def test_pools_shows_a_line_for_each_to_people(stage: Stage) -> None:
    fill(stage)
    outcome = stage.run("pools", "--over", "2m")
    assert outcome.code == 0
    rows = [" ".join(line.split()) for line in outcome.out.splitlines()]
    assert "emails 5 1 100 per 1 min 1 1 0 2 1 33.3% 33.3% 2 s 2 s" in rows
    assert "idle none, paused none none 0 0 0 0 0 0.0% 0.0% 0 ms 0 ms" in rows
    assert "of the last 2 min" in outcome.out


def test_pools_counts_ends_in_its_window(stage: Stage) -> None:
    fill(stage)
    stage.advance(300)
    assert stage.run("pools", "--json", "--over", "2m").json["pools"][0]["completed"] == 0
    assert stage.run("pools", "--json", "--over", "10m").json["pools"][0]["completed"] == 2


def test_pools_says_when_there_are_none(stage: Stage) -> None:
    assert stage.run("pools").out == "no pools\n"
    assert stage.run("pools", "--json").json == {"pools": []}


def test_pools_refuses_a_window_that_cannot_be_meant(stage: Stage) -> None:
    outcome = stage.run("pools", "--over", "3d")
    assert outcome.code == 2
    assert "from 1m to 1d" in outcome.err
