"""The figures as pictures, each a function from what a workload kept to a matplotlib figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

__all__ = ["bars", "commit_latency", "held", "latency_cdf", "over_size", "processes", "save"]

Points = Sequence[Mapping[str, Any]]

_OURS: Final = "#1f5fa8"
_OTHERS: Final = "#a9b4c0"
_LIMIT: Final = "#d8a657"
_MORE: Final = ("#c2553a", "#4c9a6a")
_SHADE: Final = "#f3e2dc"
_FORMATS: Final = ("png", "svg")
_SETTINGS: Final[Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "axes.axisbelow": True,
    "svg.hashsalt": "durable",
}


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write it as PNG and as SVG; the same figures give the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{ending}" for ending in _FORMATS]
    for path in paths:
        # A date in the file would make each run a change.
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        with mpl.rc_context(_SETTINGS):
            figure.savefig(path, dpi=150, metadata=metadata)
    return paths


def bars(title: str, rates: Mapping[str, float], *, unit: str, ours: str, limit: str | None = None) -> Figure:
    """One bar for each name, the greatest on top; `ours` and `limit` stand out by their colours."""
    figure, axes = _axes(title, height=1.2 + 0.38 * len(rates))
    names = sorted(rates, key=lambda name: rates[name])
    colours = [_OURS if name == ours else _LIMIT if name == limit else _OTHERS for name in names]
    drawn = axes.barh(names, [rates[name] for name in names], color=colours)
    axes.bar_label(drawn, labels=[f" {rates[name]:,.0f}" for name in names])
    axes.margins(x=0.15)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(unit)
    axes.xaxis.set_major_formatter(_thousands())
    return figure


def latency_cdf(samples: Mapping[str, Sequence[float]]) -> Figure:
    """The part of the executions that had started by so many milliseconds."""
    figure, axes = _axes("Latency on an idle executor")
    for (name, values), colour in zip(samples.items(), (_OURS, *_MORE), strict=False):
        ordered = sorted(values)
        axes.step(
            ordered, [(i + 1) / len(ordered) for i in range(len(ordered))], where="post", color=colour, label=name
        )
    axes.set_xscale("log")
    # What starts with its commit, or at its due moment, is as good as that.
    axes.set_xlim(left=0.1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylim(0, 1.01)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.set_xlabel("milliseconds from the commit, or from the end of the delay, to the handler's first line")
    _legend(figure)
    return figure


def over_size(title: str, points: Points, size: str, *, unit: str, also: Mapping[str, str] | None = None) -> Figure:
    """Throughput at each size, beside the drain of the same moment; `also`: more figures of the points, with labels."""
    figure, axes = _axes(title)
    places = range(len(points))
    _line(axes, places, [point["rate_per_s"] for point in points], _OURS, "durable")
    _line(axes, places, [point["drain_per_s"] for point in points], _OTHERS, "alone, in the same run", style="--")
    for (figure_name, label), colour in zip((also or {}).items(), _MORE, strict=False):
        there = [place for place in places if figure_name in points[place]]
        _line(axes, there, [points[place][figure_name] for place in there], colour, label)
    axes.set_xticks(list(places), [f"{point[size]:,.0f}" for point in points])
    axes.set_xlabel(unit)
    _rates(axes)
    _legend(figure)
    return figure


def held(points: Points) -> Figure:
    """Throughput, claims and dead tuples over time; the hold is shaded."""
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(7.5, 6.4), layout="constrained")
        panels = figure.subplots(3, 1, sharex=True)
    points = [point for point in points if point["phase"] != "warming up"]
    hold = [point["s"] for point in points if point["phase"] == "held"]
    seconds = [point["s"] for point in points]
    panels[0].set_title("Under load, while another connection holds a snapshot", loc="left", fontweight="bold")
    for axes, name, colour in zip(
        panels, ("rate_per_s", "claim_p99_ms", "dead_tuples"), (_OURS, _MORE[0], _OTHERS), strict=True
    ):
        if hold:
            label = "the snapshot is held" if axes is panels[0] else None
            axes.axvspan(hold[0], hold[-1], color=_SHADE, label=label, zorder=0)
        axes.plot(seconds, [point[name] for point in points], color=colour)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(_thousands())
    panels[0].set_ylabel("executions per second")
    panels[1].set_ylabel("p99 of claims, ms")
    panels[2].set_ylabel("dead tuples")
    panels[2].set_xlabel("seconds")
    _legend(figure)
    return figure


def processes(points: Points) -> Figure:
    """Throughput of so many executors, each in a process of its own."""
    figure, axes = _axes("Executors in processes of their own, one queue")
    drawn = axes.bar(
        [f"{point['processes']:g}" for point in points],
        [point["rate_per_s"] for point in points],
        color=_OURS,
        width=0.5,
    )
    axes.bar_label(drawn, labels=[f"{point['rate_per_s']:,.0f}" for point in points])
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("processes")
    _rates(axes)
    return figure


def commit_latency(points: Points) -> Figure:
    """Throughput where a flush of the log takes longer, beside the bare loop there."""
    figure, axes = _axes("The drain on slower volumes")
    places = range(len(points))
    _line(axes, places, [point["limit_per_s"] for point in points], _LIMIT, "bare loop on a minimal table")
    _line(axes, places, [point["rate_per_s"] for point in points], _OURS, "durable")
    labels = [f"+{point['added_ms']:g} ms\n(a commit: {point['commit_ms']:.1f} ms)" for point in points]
    axes.set_xticks(list(places), labels)
    axes.set_xlabel("added to each flush of the log")
    _rates(axes)
    _legend(figure)
    return figure


def _axes(title: str, *, height: float = 3.8) -> tuple[Figure, Axes]:
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(7.5, height), layout="constrained")
        axes = figure.subplots()
    axes.set_title(title, loc="left", fontweight="bold")
    return figure, axes


def _line(
    axes: Axes, places: Sequence[float], values: Sequence[float], colour: str, label: str, *, style: str = "-"
) -> None:
    axes.plot(places, values, style, marker="o", color=colour, label=label)


def _legend(figure: Figure) -> None:
    """Outside of the axes, where it hides no line."""
    figure.legend(loc="outside lower center", ncols=3, frameon=False)


def _rates(axes: Axes) -> None:
    axes.set_ylim(bottom=0)
    axes.margins(y=0.12)
    axes.set_ylabel("executions per second")
    axes.yaxis.set_major_formatter(_thousands())


def _thousands() -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{value:,.0f}")
