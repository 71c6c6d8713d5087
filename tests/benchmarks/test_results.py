"""RESULTS.md and its plots say what the last runs found, and which bars it reaches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import record
from benchmarks.bars import BARS, Bar, lines
from benchmarks.results import write

FACTS = {"versions": {"durable": "1"}, "settings": {"fsync": "on"}}


def result(details: dict[str, Any] | None = None, **figures: float) -> dict[str, Any]:
    return {"count": 10, "runs": [figures], "details": details or {}, **figures}


def peer(**figures: float) -> dict[str, Any]:
    return {"workloads": {"drain": figures}}


def test_a_later_run_replaces_its_own_workload_and_no_other(tmp_path: Path) -> None:
    record.keep({"drain": result(ratio=0.5), "bulk": result(rate_per_s=1.0)}, FACTS, tmp_path)
    record.keep({"drain": result(ratio=0.7)}, FACTS, tmp_path)

    kept = record.kept(tmp_path)
    assert kept["drain"]["ratio"] == 0.7
    assert kept["bulk"]["rate_per_s"] == 1.0
    assert kept["bulk"]["settings"] == {"fsync": "on"}


@pytest.mark.parametrize(
    ("figures", "answer"), [({"ratio": 0.6}, "yes"), ({"ratio": 0.59}, "no"), ({}, "not measured")]
)
def test_a_bar_is_reached_not_reached_or_not_measured(figures: dict[str, float], answer: str) -> None:
    first = next(iter(lines({"drain": figures}, {})))

    assert first.bar == BARS[0]
    assert first.answer == answer


def test_a_bar_may_be_the_most() -> None:
    bar = Bar("fanout", "seconds", 0.15, "seconds", is_least=False)

    assert [bar.is_reached(value) for value in (0.15, 0.16)] == [True, False]


def test_the_best_peer_is_that_of_the_comparison_and_neither_ours_nor_the_limit() -> None:
    rates = {"durable": 9.0, "bare loop": 20.0, "pgqueuer": 3.0, "graphile-worker": 6.0}
    peers = {name: {"drain": {"rate_per_s": rate}} for name, rate in rates.items()}

    found = {line.bar.words: line for line in lines({}, peers)}

    assert found[BARS[0].words].best_peer == "graphile-worker 6"
    assert found["times the rate of pgqueuer, in one comparison"].ours == 3.0
    assert found["times the rate of graphile-worker, in one comparison"].answer == "yes"


def test_the_page_has_every_bar_and_links_the_plots_that_there_are(tmp_path: Path) -> None:
    held = [{"phase": phase, "s": float(number), "rate_per_s": 9, "claim_p99_ms": 2.0, "dead_tuples": 5}
            for number, phase in enumerate(("before", "held", "held", "after"))]  # fmt: skip
    sizes = [
        {"pending": 10, "rate_per_s": 5.0, "drain_per_s": 6.0},
        {"pending": 20, "rate_per_s": 4.0, "drain_per_s": 6},
    ]
    results = {
        "drain": result({"statements": [{"statement": "claim", "calls": 3, "us_per_execution": 1.0,
                                         "wal_bytes_per_execution": 2.0}]},
                        rate_per_s=5.0, limit_per_s=9.0, ratio=0.55),
        "backlog": result({"points": sizes}, ratio=0.7),
        "held": result({"points": held}, throughput_ratio=1.0, claim_p99_ratio=1.0, recovery_s=2.0),
        "latency": result({"samples_ms": {"same process": [1.0, 2.0]}}, p50_ms=1.0, p99_ms=2.0),
        "multi": result({"points": [{"processes": 1, "rate_per_s": 5.0}]}),
        "slow": result({"points": [{"added_ms": 0, "commit_ms": 0.1, "rate_per_s": 5.0, "limit_per_s": 9.0}]}),
    }  # fmt: skip
    record.keep(results, FACTS, tmp_path)
    (tmp_path / "peers.json").write_text(
        json.dumps({"peers": {"durable": peer(rate_per_s=5.0), "dbos": peer(rate_per_s=1.0)}})
    )

    write(tmp_path)

    page = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert [bar.words for bar in BARS if bar.words not in page] == []
    assert "| `claim` | 3 |" in page
    drawn = {path.name for path in (tmp_path / "plots").iterdir()}
    names = ("throughput", "latency", "backlog", "held", "processes", "commit_latency")
    assert drawn == {f"{name}.{ending}" for name in names for ending in ("png", "svg")}
    assert [name for name in names if f"plots/{name}.png" not in page] == []
