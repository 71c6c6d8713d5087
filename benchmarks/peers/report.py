"""The comparison for people: figures, what stands beside them, and where we are behind."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from benchmarks.common import Figures
from benchmarks.peers.figures import Comparison
from benchmarks.peers.peer import PROMISES, Peer
from benchmarks.peers.results import Lead, Results

__all__ = ["report"]

_UNITS = {
    "rate_per_s": "/s", "steps_per_s": "steps/s", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "seconds": "s",
    "statements_per_s": "statements/s", "cpu_s_per_min": "CPU s/min",
}  # fmt: skip


def report(results: Results, ours: Peer, others: list[Peer]) -> Iterator[RenderableType]:
    """Piece by piece."""
    for is_more_better in (True, False):
        comparisons = [c for c in results.comparisons if c.is_more_better == is_more_better]
        if comparisons:
            yield _figures(results, comparisons, title="more is better" if is_more_better else "less is better")
    yield from _reasons(results)
    yield _answers(results)
    yield from _behind(list(results.leads(ours, others)))


def _figures(results: Results, comparisons: list[Comparison], *, title: str) -> Table:
    """A line for each library, and one more where it was also measured at its default polling."""
    table = Table(header_style="dim", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(title)
    for comparison in comparisons:
        for figure in comparison.main:
            table.add_column(f"{comparison.name}\n{_UNITS.get(figure, figure)}", justify="right", no_wrap=True)
    for peer in results.peers:
        cells = [results.cell(comparison, peer) for comparison in comparisons]
        if all(comparison.name in peer.cannot for comparison in comparisons):
            continue
        table.add_row(peer.name, *_line(comparisons, [cell.figures for cell in cells]))
        if any(cell.default_pace is not None for cell in cells):
            paced = _line(comparisons, [cell.default_pace for cell in cells])
            table.add_row(f"  {peer.default_pace}", *paced, style="dim")
    return table


def _line(comparisons: list[Comparison], found: list[Figures | None]) -> Iterator[str]:
    for comparison, figures in zip(comparisons, found, strict=True):
        for figure in comparison.main:
            yield "-" if figures is None or figure not in figures else _short(figures[figure])


def _short(value: float) -> str:
    """To three digits at least: what lies below differs from run to run."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


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
        yield Text(f"{line}{_short(lead.ours)} to {_short(lead.theirs)} ({lead.factor:.1f}x)", style="yellow")
