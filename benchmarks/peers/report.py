"""The comparison for people: figures, what stands beside them, and where we are behind."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from benchmarks.common import Figures
from benchmarks.peers.peer import PROMISES, Peer
from benchmarks.peers.results import Lead, Results
from benchmarks.tables import shown

__all__ = ["report"]

_UNITS = {
    "rate_per_s": "/s", "steps_per_s": "steps/s", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "seconds": "s",
    "statements_per_s": "stmts/s", "cpu_s_per_min": "CPU s/min",
}  # fmt: skip


def report(results: Results, ours: Peer, others: list[Peer]) -> Iterator[RenderableType]:
    """Piece by piece."""
    yield _figures(results)
    yield from _reasons(results)
    yield _answers(results)
    yield from _behind(list(results.leads(ours, others)))


def _figures(results: Results) -> Table:
    """A line for each library, and one more where it was also measured at its default polling."""
    table = Table(header_style="dim", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for comparison in results.comparisons:
        for figure in comparison.main:
            table.add_column(f"{comparison.name}\n{_UNITS.get(figure, figure)}", justify="right")
    for peer in results.peers:
        cells = [results.cell(comparison, peer) for comparison in results.comparisons]
        table.add_row(peer.name, *_line(results, [cell.figures for cell in cells]))
        if any(cell.default_pace is not None for cell in cells):
            paced = _line(results, [cell.default_pace for cell in cells])
            table.add_row(f"  {peer.default_pace}", *paced, style="dim")
    return table


def _line(results: Results, found: list[Figures | None]) -> Iterator[str]:
    for comparison, figures in zip(results.comparisons, found, strict=True):
        for figure in comparison.main:
            yield "-" if figures is None or figure not in figures else shown(figures[figure])


def _reasons(results: Results) -> Iterator[Text]:
    """Why there is a dash."""
    for peer in results.peers:
        names: dict[str, list[str]] = {}
        for comparison in results.comparisons:
            reason = results.reason(comparison, peer)
            if reason is not None:
                names.setdefault(reason, []).append(comparison.name)
        for reason, there in names.items():
            style = "dim" if there[0] in peer.cannot else "red"
            yield Text(f"{peer.name} has no {', '.join(there)}: {reason}", style=style)


def _answers(results: Results) -> Table:
    """What each promises, question by question, and how it was set up."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, question in {"": "set up with", **PROMISES}.items():
        table.add_row("")
        table.add_row(Text(question, style="bold"))
        for peer in results.peers:
            answer = peer.promises[name] if name else f"{peer.version}; {peer.configuration}"
            table.add_row(f"  {peer.name}", answer)
    return table


def _behind(leads: list[Lead]) -> Iterator[Text]:
    if not leads:
        yield Text("By no figure is a library here ahead of ours in this run.")
    for lead in leads:
        line = f"behind {lead.peer.name} in {lead.comparison.name}, {_UNITS.get(lead.figure, lead.figure)}: "
        yield Text(f"{line}{shown(lead.ours)} to {shown(lead.theirs)} ({lead.factor:.1f}x)", style="yellow")
