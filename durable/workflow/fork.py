"""Run a workflow again: from a step of its history, or from the beginning."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final

from durable.codec import Codec
from durable.errors import ConfigurationError, ExecutionNotFound
from durable.execution import SUCCEEDED, Execution, Kind, NewExecution, Status
from durable.fork_rows import Fork
from durable.script import Script, Tell, ask, change
from durable.storage import Hint
from durable.workflow.entries import EntryKind
from durable.workflow.reasking import asked_anew
from durable.workflow.retiming import moved_timers
from durable.workflow.telling import is_end_of_work
from durable.workflow_rows import Entry

__all__ = ["fork", "fork_point", "restart"]

_SHOWN_KEYS: Final = 10
_DECIDED: Final = frozenset({EntryKind.STEP, EntryKind.CHILD_END, EntryKind.MAPPED})


def fork(source_id: str, from_step: str | None, codec: Codec, new_id: Callable[[], str]) -> Script[str]:
    """Store a new execution with the history of another before a step; gives its id. See WorkflowHandle.fork."""
    source = yield from _workflow(source_id)
    (history,) = yield from ask(lambda storage: storage.histories([(source_id, 0, 0)]))
    before = fork_point(history.entries, from_step, is_done=source.status in SUCCEEDED)
    # Up to what was read: a source that runs may have more by the time of the copy.
    copied = [entry for entry in history.entries if before is None or entry.seq < before]
    new = _anew(source, new_id())
    timers = yield from moved_timers(copied, source, is_whole=before is None)
    cut = yield from asked_anew(
        Fork(copied[-1].seq + 1 if copied else 1, replaced=timers),
        copied,
        history.messages,
        fork_id=new.id,
        iteration=source.iteration,
        codec=codec,
        new_id=new_id,
    )
    is_stored = yield from change(lambda storage: storage.fork_workflow(source_id, fork=cut, new=new))
    if not is_stored:
        raise ExecutionNotFound(source_id)
    yield Tell((Hint("ready", new.queue),))
    return new.id


def restart(source_id: str, new_id: str) -> Script[str]:
    """Store a new execution with the input of another; gives its id."""
    new = _anew((yield from _workflow(source_id)), new_id)
    yield from change(lambda storage: storage.enqueue([new]))
    yield Tell((Hint("ready", new.queue),))
    return new_id


def _workflow(execution_id: str) -> Script[Execution]:
    (found,) = yield from ask(lambda storage: storage.get([execution_id]))
    if found is None:
        raise ExecutionNotFound(execution_id)
    if found.kind is not Kind.WORKFLOW:
        raise ConfigurationError(f"execution {execution_id} is a {found.kind}; only workflows can be run again so")
    return found


def _anew(source: Execution, new_id: str) -> NewExecution:
    """A root of its own that may run at once, without the key, which is the source's."""
    fields = {name: getattr(source, name) for name in NewExecution._fields if name != "run_at"}
    new = NewExecution(**fields, run_at=None)
    return new._replace(
        id=new_id, root_id=new_id, parent_id=None, child_index=None, is_finalize=False, depth=0, delay=0.0,
        idempotency_key=None, idempotency_hash=None, outlives_parent=False,
    )  # fmt: skip


def fork_point(entries: Sequence[Entry], from_step: str | None, *, is_done: bool) -> int | None:
    """The seq before which a history is copied; None: all of it. Raises ConfigurationError for a step it has not.

    Without a step it is where the workflow failed: the last entry with a failure before it began to undo its work or
    was told to stop. `is_done`: it has completed.
    """
    if from_step is not None:
        return _seq_of(entries, from_step if "#" in from_step else f"{from_step}#1")
    if is_done:
        return None
    turned = next((entry.seq for entry in entries if is_end_of_work(entry)), None)
    before = [entry for entry in entries if turned is None or entry.seq < turned]
    last = next((entry for entry in reversed(before) if entry.kind in _DECIDED), None)
    if last is None or not _is_failure(last):
        return turned
    # Of a child its start is left, which is nobody's in a fork: it is started anew, in its old place.
    return _seq_of(before, last.key) if last.kind == EntryKind.STEP else last.seq


def _seq_of(entries: Sequence[Entry], key: str) -> int:
    found = next((entry.seq for entry in entries if entry.key == key), None)
    if found is None:
        keys = list(dict.fromkeys(entry.key for entry in entries if "#" in entry.key))
        shown = ", ".join(keys[-_SHOWN_KEYS:]) or "nothing"
        raise ConfigurationError(f"the history has no step {key!r}; the last it has: {shown}")
    return found


def _is_failure(entry: Entry) -> bool:
    match entry.kind:
        case EntryKind.STEP:
            return entry.error is not None
        case EntryKind.CHILD_END:
            return Status(json.loads(entry.detail or "{}")["status"]) not in SUCCEEDED
        case _:
            return entry.output is not None
