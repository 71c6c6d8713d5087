"""durable pools: the pools, their limits, what stands in them and how their work went."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from durable.cli.exits import Exit
from durable.cli.options import add_storage_options, opened
from durable.cli.output import clean, out_console, print_json, table
from durable.errors import ConfigurationError
from durable.explain import span
from durable.pool_options import report_window
from durable.pool_report import PoolReport, pool_report
from durable.pool_rows import PoolConfig

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--over", type=_window, default="1h", help="count what ended in this time, 1m to 1d (default: 1h)"
    )
    add_storage_options(parser)


def run(args: argparse.Namespace) -> int:
    with opened(args) as storage:
        pools = storage.pools().run()
        tallies = storage.pool_tallies(over=args.over).run()
    reports = [pool_report(pool.name, args.over, tallies) for pool in pools]
    if args.json:
        print_json({"pools": [_fields(*pair) for pair in zip(pools, reports, strict=True)]})
        return Exit.OK
    console = out_console()
    console.print(_rows(pools, reports) if pools else "no pools")
    if pools:
        console.print(f"ends, attempts and lags of the last {span(args.over)}; more in --json, also by task")
    return Exit.OK


def _window(text: str) -> float:
    try:
        return report_window(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _rows(pools: Sequence[PoolConfig], reports: Sequence[PoolReport]) -> Table:
    rows = table(
        "pool", "limit", "per key", "rate", "backlog", "scheduled", "running", "completed", "failed", "failed for good",
        "attempts failed", "start lag", "longest",
    )  # fmt: skip
    for pool, report in zip(pools, reports, strict=True):
        rows.add_row(
            clean(pool.name),
            f"{_limit(pool.max_parallelism)}{', paused' if pool.is_paused else ''}",
            _limit(pool.max_per_key),
            _rate(pool),
            str(report.backlog),
            str(report.scheduled),
            str(report.running),
            str(report.completed),
            str(report.failed),
            f"{report.permanent_failure_rate:.1%}",
            f"{report.failure_rate:.1%}",
            span(report.start_lag_mean),
            span(report.start_lag_max),
        )
    return rows


def _limit(value: int | None) -> str:
    return "none" if value is None else str(value)


def _rate(pool: PoolConfig) -> str:
    if pool.rate_tokens is None or pool.rate_period is None:
        return "none"
    return f"{pool.rate_tokens} per {span(pool.rate_period)}"


def _fields(pool: PoolConfig, report: PoolReport) -> dict[str, Any]:
    tasks = {name: work.numbers() for name, work in report.tasks.items()}
    return {**pool._asdict(), "over": report.over, **report.numbers(), "tasks": tasks}
