"""Run the histories of production against the code of today, and say which of them would not go on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from durable.execution import FINISHED, Execution, Kind, Status
from durable.registry import Registry
from durable.script import Ask, Script
from durable.storage import ExecutionFilter, Storage
from durable.workflow.dry import ReplayedHistory, replay_history
from durable.workflow.stored import StoredHistory, load_history, read_histories

__all__ = ["replay_histories"]

T = TypeVar("T")
_PAGE: Final = 100
_FINISHED: Final = tuple(status for status in Status if status in FINISHED)
_UNFINISHED: Final = tuple(status for status in Status if status not in FINISHED)


async def replay_histories(
    app: Registry, source: Storage | Iterable[str | Path], *, limit: int = 1000, include_finished: bool = False
) -> list[ReplayedHistory]:
    """What the app's workflows make of stored histories; nothing is written and no step is run.

    `source` is an open storage, of which at most `limit` unfinished executions of each workflow are looked at, the
    newest first, and with `include_finished` as many that have finished, after them; or the files that `durable history
    ID --json` has written, all of which are looked at. Each result has its `status`. `[found for found in … if not
    found.fits]` are those that could not go on with this code. Raises ConfigurationError for a file that holds no
    history.
    """
    if isinstance(source, Iterable):
        return [replay_history(app.find, _read(path)) for path in source]
    names = [name for name in app if app[name].kind is Kind.WORKFLOW]
    replayed: list[ReplayedHistory] = []
    for name in names:
        for statuses in (_UNFINISHED, _FINISHED) if include_finished else (_UNFINISHED,):
            async for page in _pages(source, ExecutionFilter(statuses, name), limit):
                stored = await _played(source, read_histories(page))
                replayed += [replay_history(app.find, each) for each in stored]
    return replayed


def _read(path: str | Path) -> StoredHistory:
    return load_history(Path(path).read_text(encoding="utf-8"))


async def _pages(storage: Storage, wanted: ExecutionFilter, limit: int) -> AsyncIterator[Sequence[Execution]]:
    before: str | None = None
    while limit > 0:
        found = await storage.search(wanted, limit=min(limit, _PAGE), before=before)
        if not found:
            return
        limit -= len(found)
        before = found[-1].id
        yield [record for record in found if record.kind is Kind.WORKFLOW]


async def _played(storage: Storage, script: Script[T]) -> T:
    answer: Any = None
    try:
        while True:
            step = script.send(answer)
            assert isinstance(step, Ask)
            answer = await step.make(storage)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
