"""`python -m benchmarks.results`: RESULTS.md and its plots, from the last figures that were kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from benchmarks import plots, record
from benchmarks.bars import LIMIT, OURS, lines
from benchmarks.tables import shown

__all__ = ["write"]

Results = Mapping[str, Mapping[str, Any]]

_HEAD: Final = """\
# Results

Made by `./dev bench`; do not edit. Only ratios within one run say something about the library: an absolute figure is as
much the machine's. Each line is the last run of its workload, on the day that the tables below tell.
"""
_PLOTS: Final = {
    "throughput": "No-op executions that wait, one process: how many per second",
    "latency": "From the commit of an enqueue to the first line of the handler",
    "backlog": "The first 20,000 of so many that wait",
    "history": "20,000 beside so many that ended, and while these are deleted",
    "held": "Under load while another connection holds a snapshot",
    "processes": "Executors in processes of their own",
    "commit_latency": "The drain where each flush of the log takes longer",
}
_NOT_SHOWN: Final = {"workload", "count", "runs", "details", "versions", "settings", "measured_on"}


def write(folder: Path = record.FOLDER) -> list[Path]:
    """Write the page and the plots of what there is; gives their paths."""
    results, peers = record.kept(folder), record.peers(folder)
    written = [path for name, figure in _figures(results, peers) for path in plots.save(figure, folder / "plots", name)]
    there = {path.stem for path in written}
    parts = [_HEAD, *_bars(results, peers), *_pictures(there), *_workloads(results)]
    page = folder / "RESULTS.md"
    page.write_text("\n".join(parts), encoding="utf-8")
    return [page, *written]


def _figures(results: Results, peers: Results) -> Iterator[tuple[str, Figure]]:
    details = {name: result["details"] for name, result in results.items()}
    rates = _drain_rates(results, peers)
    if rates:
        yield (
            "throughput",
            plots.bars("No-op executions, one process", rates, unit="executions per second", ours=OURS, limit=LIMIT),
        )
    if "latency" in details:
        yield "latency", plots.latency_cdf(details["latency"]["samples_ms"])
    if "backlog" in details:
        yield (
            "backlog",
            plots.over_size(
                "The first 20,000 of many that wait",
                details["backlog"]["points"],
                "pending",
                unit="executions that wait",
            ),
        )
    if "history" in details:
        yield "history", plots.over_size(
            "20,000 beside many that ended", details["history"]["points"], "finished", unit="finished executions",
            also={"retention_rate_per_s": "while retention deletes"},
        )  # fmt: skip
    if "held" in details:
        yield "held", plots.held(details["held"]["points"])
    if "multi" in details:
        yield "processes", plots.processes(details["multi"]["points"])
    if "slow" in details:
        yield "commit_latency", plots.commit_latency(details["slow"]["points"])


def _drain_rates(results: Results, peers: Results) -> dict[str, float]:
    """Those of one comparison where there is one, for these can be compared; else ours and the limit of its run."""
    if peers:
        found = {name: workloads.get("drain", {}).get("rate_per_s") for name, workloads in peers.items()}
        return {name: rate for name, rate in found.items() if rate}
    if "drain" in results:
        return {OURS: results["drain"]["rate_per_s"], LIMIT: results["drain"]["limit_per_s"]}
    return {}


def _bars(results: Results, peers: Results) -> Iterator[str]:
    yield "## The bars\n"
    yield "| workload | count | figure | best peer | ours | bar | reached |"
    yield "|---|---|---|---|---|---|---|"
    for line in lines(results, peers):
        ours = "-" if line.ours is None else shown(line.ours)
        count = shown(results[line.bar.workload]["count"]) if line.bar.workload in results else "-"
        cells = (line.bar.workload, count, line.bar.words, line.best_peer, ours, line.wanted, line.answer)
        yield f"| {' | '.join(cells)} |"
    yield ""
    if peers:
        yield "The best peer is that of the last `python -m benchmarks compare`, by its figures there.\n"
    else:
        yield "Peers are measured by `python -m benchmarks compare`; it has not been run beside these.\n"


def _pictures(there: set[str]) -> Iterator[str]:
    yield "## Plots\n"
    for name, words in _PLOTS.items():
        if name in there:
            yield f"{words}:\n\n![{words}](plots/{name}.png)\n"


def _workloads(results: Results) -> Iterator[str]:
    yield "## Every figure\n"
    yield "The median of the runs; least and most beside it where there was more than one.\n"
    for name, result in sorted(results.items()):
        yield f"### {name}\n"
        yield f"{result['measured_on']}, count {result['count']:,}, {_place(result)}.\n"
        yield from _table(result)
        yield from _statements(result["details"].get("statements", []))
        if "how" in result["details"]:
            yield f"\nHow: {result['details']['how']}.\n"


def _place(result: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items())
    settings = ", ".join(f"{name} {value}" for name, value in result["settings"].items())
    return f"{versions}; {settings}"


def _table(result: Mapping[str, Any]) -> Iterator[str]:
    runs = result["runs"]
    yield "| figure | median | least | most |" if len(runs) > 1 else "| figure | value |"
    yield "|---|---|---|---|" if len(runs) > 1 else "|---|---|"
    for name in (name for name in runs[0] if name not in _NOT_SHOWN):
        values = [run[name] for run in runs]
        cells = [result[name], min(values), max(values)] if len(runs) > 1 else [result[name]]
        yield f"| {name} | " + " | ".join(shown(cell) for cell in cells) + " |"
    yield ""


def _statements(found: list[Mapping[str, Any]]) -> Iterator[str]:
    if not found:
        return
    yield "Statements by cost, of the last run:\n"
    yield "| statement | calls | µs per execution | WAL bytes per execution |"
    yield "|---|---|---|---|"
    for line in found:
        each = f"{line['us_per_execution']:.1f} | {line['wal_bytes_per_execution']:.0f}"
        yield f"| `{line['statement'].replace('|', ' ')}` | {line['calls']:,} | {each} |"
    yield ""


if __name__ == "__main__":
    for path in write():
        print(path)
