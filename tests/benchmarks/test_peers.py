"""The parts of the comparison: the order of runs, figures from what programs print, children, environments."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from benchmarks.peers.catalogue import LIMIT, OURS, PEERS
from benchmarks.peers.children import ProgramFailed, measured, ran
from benchmarks.peers.environments import cache_folder, is_ready, prepare
from benchmarks.peers.figures import COMPARISONS
from benchmarks.peers.peer import PROMISES, Peer
from benchmarks.peers.plan import Run, plan
from benchmarks.peers.results import Results
from tests.support.sources import ROOT

FAKE = Path(__file__).with_name("fake_peer.py")
PROGRAMS = ROOT / "benchmarks" / "peers"
EVERYBODY = (OURS, LIMIT, *PEERS.values())


def make_peer(name: str, *, cannot: tuple[str, ...] = (), default_pace: str | None = None) -> Peer:
    return Peer(
        name, "1", "as it comes", dict.fromkeys(PROMISES, "-"), "none.py", cannot=dict.fromkeys(cannot, "it cannot"),
        default_pace=default_pace,
    )  # fmt: skip


A, B, C = make_peer("a"), make_peer("b", cannot=("bulk",)), make_peer("c", default_pace="poll 1 s")
DRAIN, BULK, LATENCY, IDLE = (COMPARISONS[name] for name in ("drain", "bulk", "latency", "idle"))


# --- the order -------------------------------------------------------------------------------------------------------


def test_all_take_turns_and_another_one_is_first_each_time() -> None:
    runs = [(run.number, run.peer.name) for run in plan([DRAIN], [A, B, C], repeat=3)]

    assert runs == [(1, "a"), (1, "b"), (1, "c"), (2, "b"), (2, "c"), (2, "a"), (3, "c"), (3, "a"), (3, "b")]


def test_a_workload_is_over_before_the_next_and_left_out_where_a_peer_cannot_do_it() -> None:
    runs = [(run.comparison.name, run.peer.name) for run in plan([DRAIN, BULK], [A, B], repeat=1)]

    assert runs == [("drain", "a"), ("drain", "b"), ("bulk", "a")]


def test_nobody_that_can_do_it_is_no_run() -> None:
    assert list(plan([BULK], [B], repeat=2)) == []


def test_who_only_polls_is_measured_once_more_at_its_default_pace_where_it_waits() -> None:
    runs = list(plan([DRAIN, LATENCY], [A, C], repeat=2))

    assert [run for run in runs if run.is_default_pace] == [Run(LATENCY, C, LATENCY.paced_count or 0, 1, True)]


def test_a_size_asked_for_never_prolongs_what_is_timed() -> None:
    runs = plan([DRAIN, IDLE], [A], repeat=1, count=50)

    assert [run.count for run in runs] == [50, IDLE.count]
    assert [run.count for run in plan([IDLE], [A], repeat=1, count=1)] == [1]


# --- figures ---------------------------------------------------------------------------------------------------------


def test_a_rate_is_of_what_was_done() -> None:
    assert DRAIN.figures({"seconds": 2, "done": 100}, 100) == {"rate_per_s": 50}


def test_a_step_is_counted_and_not_its_workflow() -> None:
    assert COMPARISONS["steps"].figures({"seconds": 2, "done": 50}, 10) == {"steps_per_s": 25}


@pytest.mark.parametrize(
    ("workload", "found"),
    [
        ("drain", {"seconds": 1, "done": 9}),
        ("drain", {"seconds": 1, "done": 11}),
        ("steps", {"seconds": 1, "done": 10}),
        ("latency", {"latencies_ms": [1.0]}),
        ("fanout", {"seconds": 1, "total": 0}),
    ],
)
def test_a_program_that_did_not_do_all_or_did_more_has_no_figures(workload: str, found: dict[str, object]) -> None:
    with pytest.raises(ProgramFailed):
        COMPARISONS[workload].figures(found, 10)


def test_quantiles_are_of_the_latencies_found() -> None:
    assert LATENCY.figures({"latencies_ms": [float(n) for n in range(100, 0, -1)]}, 100) == {
        "p50_ms": 51, "p99_ms": 100,
    }  # fmt: skip


def test_a_server_that_counts_no_statements_leaves_that_figure_out() -> None:
    found = {"seconds": 10, "cpu_s": 1, "transactions_per_s": 3}

    assert IDLE.figures(found, 10) == {"transactions_per_s": 3, "cpu_s_per_min": 6}


def test_the_figures_that_are_shown_are_among_those_found() -> None:
    found = {"seconds": 1, "done": 0, "total": 0, "latencies_ms": [1.0], "cpu_s": 1, "statements_per_s": 1}
    sizes = {"latency": 1}

    for name, comparison in COMPARISONS.items():
        assert set(comparison.main) <= comparison.figures(found, sizes.get(name, 0)).keys()


# --- results ---------------------------------------------------------------------------------------------------------


def results_of(comparison: str, *values: tuple[Peer, list[float]]) -> Results:
    results = Results([COMPARISONS[comparison]], [peer for peer, _ in values])
    for peer, found in values:
        for number, value in enumerate(found, 1):
            figures = dict.fromkeys(COMPARISONS[comparison].main, value)
            results.add(Run(COMPARISONS[comparison], peer, 1, number), figures)
    return results


def test_the_median_stands_for_several_runs() -> None:
    cell = results_of("drain", (A, [5, 1, 3])).cell(DRAIN, A)

    assert cell.figures == {"rate_per_s": 3}


@pytest.mark.parametrize(("comparison", "behind"), [("drain", ["c"]), ("fanout", ["b"])])
def test_a_lead_goes_by_what_is_better(comparison: str, behind: list[str]) -> None:
    results = results_of(comparison, (A, [2]), (B, [1]), (C, [4]))
    leads = list(results.leads(A, [B, C]))

    assert [(lead.peer.name, lead.factor) for lead in leads] == [(name, 2.0) for name in behind]


def test_no_figure_is_no_lead() -> None:
    results = results_of("drain", (A, [1]), (B, []))

    assert list(results.leads(A, [B])) == []
    assert list(results.leads(B, [A])) == []


def test_why_there_is_no_figure_is_told() -> None:
    results = Results([DRAIN, BULK], [A, B, C])
    results.not_installed["c"] = "no network"
    results.fail(Run(DRAIN, A, 1, 1), "it fell over")

    assert results.reason(DRAIN, A) == "failed: it fell over"
    assert results.reason(BULK, B) == "it cannot"
    assert results.reason(DRAIN, C) == "not installed: no network"
    assert results.reason(BULK, A) == "was not run"


def test_one_failure_among_runs_is_kept_beside_the_others() -> None:
    results = results_of("drain", (A, [2]))
    results.fail(Run(DRAIN, A, 1, 2), "once")

    assert results.reason(DRAIN, A) is None
    assert results.as_object()["a"]["workloads"]["drain"] == {
        "rate_per_s": 2, "runs": [{"rate_per_s": 2}], "failure": "once",
    }  # fmt: skip


# --- children --------------------------------------------------------------------------------------------------------


async def fake(workload: str, count: int, **options: object) -> dict[str, object]:
    command = [sys.executable, FAKE, workload, str(count)]
    return await measured(command, {"PGDATABASE": "of_the_run"}, limit_s=60, **options)  # type: ignore[arg-type]


async def test_a_program_is_told_where_to_measure() -> None:
    found = await fake("drain", 4)

    assert found["done"] == 4
    assert found["place"] | {"PGDATABASE": "of_the_run"} == found["place"]  # type: ignore[operator]


async def test_a_program_at_rest_ends_when_it_was_watched() -> None:
    watched = asyncio.Event()

    async def watch() -> None:
        watched.set()

    assert await fake("idle", 1, at_ready=watch) == {"seconds": 2.0, "cpu_s": 0.5}
    assert watched.is_set()


@pytest.mark.parametrize(("count", "said"), [(13, "exit code 3: the cause of it"), (15, "all is well")])
async def test_a_program_that_fails_is_quoted(count: int, said: str) -> None:
    with pytest.raises(ProgramFailed, match=said):
        await fake("drain", count)


async def test_a_program_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    file = tmp_path / "pid"

    with pytest.raises(ProgramFailed, match="took more than 3 s"):
        await measured([sys.executable, FAKE, "drain", "16"], {"FAKE_PID": str(file)}, limit_s=3)
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)


async def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramFailed, match="no-such-thing"):
        await ran([tmp_path / "no-such-thing"], limit_s=60)


# --- environments ----------------------------------------------------------------------------------------------------


def test_environments_are_kept_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "durable-benchmarks"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == Path.home() / ".cache" / "durable-benchmarks"


async def test_ours_needs_no_environment(tmp_path: Path) -> None:
    assert is_ready(OURS, tmp_path)
    environment = await prepare(OURS, tmp_path)

    assert environment.command == (sys.executable, "-m", "benchmarks.peers.durable_worker")


async def test_one_that_could_not_be_made_is_not_taken_for_one_that_was(tmp_path: Path) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text(f"{tmp_path}/nothing-1-py3-none-any.whl\n")
    peer = Peer("fake", "1", "", {}, "fake.py", requirements=str(pins))

    with pytest.raises(ProgramFailed):
        await prepare(peer, tmp_path)
    assert not is_ready(peer, tmp_path)


async def test_an_environment_is_made_once_and_again_when_its_pins_change(tmp_path: Path) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text("# nothing\n")
    peer = Peer("fake", "1", "", {}, "fake.py", requirements=str(pins))

    environment = await prepare(peer, tmp_path)
    assert environment.command[0] == tmp_path / "fake-1" / "bin" / "python"
    assert is_ready(peer, tmp_path)
    pins.write_text("# nothing else\n")
    assert not is_ready(peer, tmp_path)


# --- the catalogue ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", EVERYBODY, ids=lambda peer: peer.name)
def test_every_library_answers_every_question(peer: Peer) -> None:
    assert peer.promises.keys() == PROMISES.keys()
    assert all(peer.promises.values())


@pytest.mark.parametrize("peer", EVERYBODY, ids=lambda peer: peer.name)
def test_a_program_does_every_workload_that_the_library_can_do(peer: Peer) -> None:
    assert programmed(peer) == COMPARISONS.keys() - peer.cannot.keys()


def programmed(peer: Peer) -> set[str]:
    """The workloads that its program names."""
    file = PROGRAMS / (peer.program if "." in peer.program else f"{peer.program}.py")
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".mjs":
        (names,) = re.findall(r"await \{ ([\w, ]+) \}", text)
        return set(names.split(", "))
    (table,) = (
        node.args[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "main"
    )
    return set(ast.literal_eval(ast.List([key for key in table.keys if key])))  # type: ignore[attr-defined]


@pytest.mark.parametrize("peer", PEERS.values(), ids=lambda peer: peer.name)
def test_the_version_named_is_the_one_installed(peer: Peer) -> None:
    assert peer.requirements is not None
    pins = PROGRAMS / peer.requirements / "package.json"
    if pins.is_file():
        assert f'"{peer.name}": "{peer.version}"' in pins.read_text(encoding="utf-8")
    else:
        lines = (PROGRAMS / "requirements" / peer.requirements).read_text(encoding="utf-8").splitlines()
        assert {f"{peer.name}=={peer.version}", f"{peer.name}-sdk=={peer.version}"} & set(lines)
        assert [line for line in lines if "==" not in line] == []
