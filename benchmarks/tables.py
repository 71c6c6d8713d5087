"""From the figures of several runs to one of each, and to a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.common import Figures, Workload

__all__ = ["median_of", "table_of"]


def median_of(runs: Sequence[Figures]) -> Figures:
    """The median of each figure over the runs; a ratio is that of each run with its own limit, then the median."""
    return {name: median(run[name] for run in runs) for name in runs[0]}


def table_of(workload: Workload, result: dict[str, Any]) -> Table:
    table = Table(header_style="dim", box=SIMPLE_HEAD, pad_edge=False)
    runs: list[Figures] = result["runs"]
    table.add_column("figure")
    table.add_column("median" if len(runs) > 1 else "value", justify="right")
    if len(runs) > 1:
        table.add_column("least", justify="right")
        table.add_column("most", justify="right")
    for name in runs[0]:
        cells = [result[name]]
        if len(runs) > 1:
            values = [run[name] for run in runs]
            cells += [min(values), max(values)]
        table.add_row(name, *(shown(cell) for cell in cells), style="bold" if name in workload.main else "")
    return table


def shown(value: float) -> str:
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:,.3g}" if abs(value) < 1 else f"{value:,.2f}"
