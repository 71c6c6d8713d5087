"""The report of a pool: numbers from tallies, rates, and windows that are refused."""

import dataclasses
from typing import Any

import pytest

from durable import ConfigurationError, Durable
from durable.pool_report import pool_report
from durable.pool_rows import PoolTally

TALLIES = [
    PoolTally("emails", "a", 1, 2, 3, 6, 1, 1, 12, 6, 4, 4, 2.0, 1.5),
    PoolTally("emails", "b", 10, 0, 0, 0, 2, 0, 4, 4, 2, 1, 3.0, 3.0),
    PoolTally("other", "a", 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100.0, 100.0),
]


def test_pool_28_a_report_has_the_rates_and_the_tasks() -> None:
    report = pool_report("emails", 3600.0, TALLIES)

    assert report.numbers() == {
        "backlog": 11, "scheduled": 2, "running": 3, "completed": 6, "failed": 3, "cancelled": 1, "attempts": 16,
        "failures": 10, "retries": 6, "failure_rate": 0.625, "permanent_failure_rate": 0.3, "start_lag_mean": 1.0,
        "start_lag_max": 3.0,
    }  # fmt: skip
    assert (report.pool, report.over, report.ended, list(report.tasks)) == ("emails", 3600.0, 10, ["a", "b"])
    first, second = report.tasks.values()
    assert (first.failure_rate, first.permanent_failure_rate, first.start_lag_mean) == (0.5, 0.125, 0.5)
    assert (second.failure_rate, second.permanent_failure_rate, second.start_lag_max) == (1.0, 1.0, 3.0)


def test_pool_28_rates_are_zero_where_nothing_ended() -> None:
    report = pool_report("emails", 60.0, [PoolTally("emails", "a", backlog=5)])

    for work in (report, report.tasks["a"], pool_report("empty", 60.0, [])):
        rates = (work.failure_rate, work.permanent_failure_rate, work.start_lag_mean, work.start_lag_max)
        assert rates == (0.0, 0.0, 0.0, 0.0)


def test_a_report_cannot_be_changed() -> None:
    report = pool_report("emails", 60.0, TALLIES)

    with pytest.raises(dataclasses.FrozenInstanceError):
        report.backlog = 0  # type: ignore[misc]
    with pytest.raises(TypeError):
        report.tasks["a"] = report  # type: ignore[index]


@pytest.mark.parametrize("over", [0, 59.9, "59s", "25h", 86_401, float("nan"), "soon", None, True])
async def test_a_window_that_cannot_be_meant_is_refused_at_the_call(over: Any) -> None:
    app = Durable("postgresql://nobody@nowhere.invalid/nothing")
    emails = app.pool("emails")

    with pytest.raises(ConfigurationError, match=r"over is .* from 1m to 1d"):
        await emails.report(over=over)
