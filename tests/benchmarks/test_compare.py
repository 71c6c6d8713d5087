"""`python -m benchmarks compare`: ours and a fake peer on a real server, and what is reported of peers that fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from benchmarks import compare
from benchmarks.__main__ import main
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.peer import PROMISES, Peer
from tests.support.sources import ROOT

FAKE = Peer(
    name="fake",
    version="7",
    configuration="nothing to set up",
    promises=dict.fromkeys(PROMISES, "whatever you like"),
    program=str(Path(__file__).with_name("fake_peer.py")),
    cannot={"fanout": "it has no friends"},
    default_pace="poll 9 s",
)
MISSING = replace(FAKE, name="missing", requirements="/nowhere/at-all.txt")
KNOWN = {peer.name: peer for peer in (FAKE, MISSING)}


@pytest.fixture(autouse=True)
def leftovers(postgres_control: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test leaves no database behind. Other processes test on the same server, so its own have a name to tell."""
    token = uuid4().hex
    monkeypatch.setattr("benchmarks.peers.databases.token_hex", lambda _: token)
    yield
    query = "select datname from pg_catalog.pg_database where datname like %s"
    assert postgres_control.execute(query, (f"bench_{token}%",)).fetchall() == []


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Environments of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "durable-benchmarks"


def compared(capsys: pytest.CaptureFixture[str], dsn: str, *argv: str) -> dict[str, Any]:
    assert compare.main([*argv, "--repeat", "1", "--json", "--dsn", dsn], KNOWN) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_ours_the_bare_loop_and_a_peer_are_measured_in_databases_of_their_own(
    postgres_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = compared(capsys, postgres_dsn, "--peers", "fake", "--workloads", "drain", "--count", "20")

    rates = {name: peer["workloads"]["drain"]["rate_per_s"] for name, peer in found["peers"].items()}
    assert rates.keys() == {"durable", "fake", "bare loop"}
    assert rates["fake"] == 10
    assert all(rate > 0 for rate in rates.values())
    assert found["workloads"]["drain"] | {"question": "?"} == {
        "question": "?", "count": 20, "unit": "jobs", "main": ["rate_per_s"], "is_more_better": True,
    }  # fmt: skip


@pytest.mark.parametrize("workload", ["steps", "fanout", "enqueue", "bulk", "latency"])
def test_our_program_does_each_workload(workload: str, postgres_dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(capsys, postgres_dsn, "--peers", "", "--workloads", workload, "--count", "4")

    ours = found["peers"]["durable"]["workloads"][workload]
    assert all(ours[figure] > 0 for figure in found["workloads"][workload]["main"])


def test_a_worker_at_rest_is_watched_by_the_server(postgres_dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(capsys, postgres_dsn, "--peers", "fake", "--workloads", "idle", "--count", "1")

    idle = found["peers"]["fake"]["workloads"]["idle"]
    assert idle["cpu_s_per_min"] == 15
    assert idle["transactions_per_s"] == 0
    assert idle["at_default_pace"]["cpu_s_per_min"] == 15


def test_what_a_peer_cannot_do_and_what_failed_is_said_and_the_others_go_on(
    postgres_dsn: str, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    found = compared(capsys, postgres_dsn, "--workloads", "drain,fanout", "--count", "13")

    fake, missing = found["peers"]["fake"], found["peers"]["missing"]
    assert fake["workloads"]["fanout"] == {"reason": "it has no friends"}
    assert fake["workloads"]["drain"] == {"reason": "failed: ended with exit code 3: the cause of it"}
    assert "at-all.txt" in missing["not_installed"]
    assert missing["workloads"]["drain"]["reason"].startswith("not installed: ")
    assert found["peers"]["durable"]["workloads"]["drain"]["rate_per_s"] > 0


def test_a_half_done_job_has_no_rate(postgres_dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(capsys, postgres_dsn, "--peers", "fake", "--workloads", "bulk", "--count", "14")

    assert found["peers"]["fake"]["workloads"]["bulk"]["reason"].startswith("failed: did 7 of 14")


def test_the_file_names_no_folder_and_no_server(
    postgres_dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    argv = ["--peers", "fake", "--workloads", "drain", "--count", "3", "--repeat", "1", "--output", str(file)]

    assert compare.main([*argv, "--dsn", postgres_dsn], KNOWN) == 0
    written = file.read_text(encoding="utf-8")
    assert json.loads(written)["peers"]["fake"]["version"] == "7"
    assert [folder for folder in (str(ROOT), str(tmp_path), str(Path.home()), "PGHOST") if folder in written] == []
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("drain", "fake", "whatever you like", *PROMISES.values()))


@pytest.mark.parametrize("argv", [["--peers", "nobody"], ["--workloads", "drian"], ["--repeat", "0"]])
def test_what_is_not_there_is_refused_before_anything_runs(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", *argv])
    assert argv[0] in capsys.readouterr().err


def test_a_server_that_is_not_there_is_an_error_of_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--peers", "fake", "--workloads", "drain", "--dsn", "postgresql://nobody@127.0.0.1:1/none"]

    assert compare.main(argv, KNOWN) == 1
    assert "127.0.0.1" in capsys.readouterr().err


def test_the_help_names_every_peer(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    shown = capsys.readouterr().out
    assert [name for name in PEERS if name not in shown] == []
