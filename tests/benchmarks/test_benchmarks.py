"""Each workload runs, on a schema that it takes away again, and reports the figures that are asked of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from benchmarks.__main__ import WORKLOADS, main

FIGURES = {
    "drain": {
        "rate_per_s", "limit_per_s", "ratio", "cpu_us_per_execution", "wal_bytes_per_execution",
        "commits_per_execution",
    },
    "reference": {"seconds", "executions_per_s", "records_per_s"},
    "latency": {f"{prefix}p{part}_ms" for prefix in ("", "late_", "other_", "tree_") for part in (50, 95, 99)},
    "enqueue": {
        "rate_per_s", "limit_per_s", "ratio", "clients_hints_ratio", "callers_hints_ratio",
        "clients_rate_per_s", "callers_rate_per_s",
    },
    "bulk": {"rate_per_s", "limit_per_s", "ratio"},
    "pool": {f"{name}_rate_per_s" for name in ("queue", "pool", "tight_pool", "keyed_pool", "few_keys_pool")}
    | {f"{name}_ratio" for name in ("pool", "tight_pool", "keyed_pool", "few_keys_pool")},
    "jobs": {
        *(f"{verb}{clients}_per_s" for verb in ("send", "add") for clients in ("", "_16_on_one_key",
                                                                             "_16_on_many_keys")),
        "limit_per_s", "ratio", "turns_per_s", "cpu_us_per_turn", "wal_bytes_per_turn", "commits_per_turn",
        "memory_few_mb", "memory_many_mb", "memory_ratio",
    },
    "instances": {f"{call}_{figure}" for call in ("status", "claim", "list") for figure in ("few_ms", "many_ms",
                                                                                         "ratio")},
    "steps": {
        "steps_per_s", "workflows_per_s", "limit_per_s", "ratio", "cpu_us_per_step", "wal_bytes_per_step",
        "commits_per_step",
    },
    "fanout": {"seconds", "children_per_s", "cpu_us_per_child", "wal_bytes_per_child"},
    "waiting": {
        "wake_p50_ms", "wake_p99_ms", "executor_rss_mb", "few_wake_p50_ms", "few_executor_rss_mb", "rss_ratio",
    },
    "backlog": {"rate_per_s", "drain_per_s", "ratio", "wal_bytes_per_execution"},
    "held": {"throughput_ratio", "claim_p99_ratio", "recovery_s", "before_rate_per_s", "held_claim_p99_ms"},
    "slow": {
        *(f"{name}_at_{ms}_ms" for ms in (0, 1, 5) for name in ("rate_per_s", "limit_per_s", "ratio", "commit_ms")),
        "kept_at_1_ms", "kept_at_5_ms",
    },
    "idle": {"cpu_s_per_min"},
    "multi": {
        *(f"processes_{number}_rate_per_s" for number in (1, 2, 4)), "processes_2_ratio", "processes_4_ratio",
        "cpu_us_per_execution",
    },
    "limit": {
        "claim_loop_per_s", "commits_1_per_s", "commits_8_per_s", "commits_32_per_s", "unnest_per_s", "copy_per_s",
    },
    "history": {"rate_per_s", "drain_per_s", "ratio", "retention_rate_per_s", "retention_ratio"},
}  # fmt: skip
SERIES = {
    "backlog": ("pending", "rate_per_s", "ratio"),
    "history": ("finished", "rate_per_s", "ratio"),
    "held": ("s", "claim_p99_ms"),
}
"""What each point of a plot has, beyond the first, which may be zero."""
COUNTS = {"drain": 60, "reference": 2, "latency": 3, "enqueue": 5, "bulk": 60, "jobs": 40, "instances": 100,
          "pool": 60, "steps": 10, "fanout": 20, "waiting": 40,
          "backlog": 60, "history": 60, "idle": 1, "slow": 20, "held": 1, "multi": 20, "limit": 40}  # fmt: skip


@pytest.fixture
def leftovers(postgres_control: psycopg.Connection[Any]) -> Iterator[None]:
    """The test leaves no schema behind."""
    yield
    found = postgres_control.execute(
        "select nspname from pg_catalog.pg_namespace where nspname like 'bench%'"
    ).fetchall()
    assert found == []


def test_every_workload_is_tried_here() -> None:
    assert WORKLOADS.keys() == FIGURES.keys()


@pytest.mark.usefixtures("leftovers")
@pytest.mark.parametrize("name", FIGURES)
def test_a_workload_prints_its_figures_as_one_json_object(
    name: str, postgres_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([name, "--json", "--repeat", "1", "--count", str(COUNTS[name]), "--dsn", postgres_dsn])
    (line,) = capsys.readouterr().out.splitlines()
    result = json.loads(line)
    assert code == 0
    assert result["workload"] == name
    assert result["count"] == COUNTS[name]
    assert {figure: result[figure] for figure in FIGURES[name] if result[figure] <= 0} == {}
    assert result["versions"].keys() >= {"durable", "python", "psycopg", "postgres"}
    assert result["settings"].keys() >= {"fsync", "synchronous_commit", "concurrency"}
    for kept in SERIES.get(name, ()):
        assert all(point[kept] > 0 for point in result["details"]["points"][1:])


@pytest.mark.usefixtures("leftovers")
def test_a_rate_comes_with_what_it_cost(postgres_dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["drain", "--json", "--repeat", "1", "--count", "60", "--dsn", postgres_dsn])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    statements = {line["statement"]: line for line in result["details"]["statements"]}

    assert any(name.startswith("settle") for name in statements)
    assert statements["claim"]["calls"] > 0
    assert result["dead_tuples"] > 0


@pytest.mark.usefixtures("leftovers")
def test_several_workloads_stand_under_their_names_with_the_median_of_their_runs(
    postgres_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["bulk", "drain", "--json", "--repeat", "3", "--count", "5", "--dsn", postgres_dsn])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result.keys() == {"bulk", "drain"}
    for figures in result.values():
        rates = sorted(run["rate_per_s"] for run in figures["runs"])
        assert figures["rate_per_s"] == rates[1]


@pytest.mark.usefixtures("leftovers")
def test_without_json_a_table_shows_every_figure(postgres_dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bulk", "--repeat", "2", "--count", "5", "--dsn", postgres_dsn]) == 0
    shown = capsys.readouterr().out
    assert all(figure in shown for figure in FIGURES["bulk"])


def test_an_unknown_workload_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["drian"])
    assert "drian" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_an_error_of_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bulk", "--dsn", "postgresql://nobody@127.0.0.1:1/none"]) == 1
    assert "127.0.0.1" in capsys.readouterr().err
