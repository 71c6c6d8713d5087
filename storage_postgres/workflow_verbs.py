"""The verbs of workflows as plans.

A checkpoint that only appends to histories is one statement. One of several statements first holds the rows of all
executions that it writes, so that the later ones see what was committed before, and nothing else changes meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from durable.errors import SleepingIdConflict, StorageUnavailable
from durable.execution import ChildOutcome, Kind, Settled, Settlement
from durable.storage import Note
from durable.stored_errors import cancelled
from durable.workflow_rows import (
    CANCELLED_BY_PARENT,
    GIVEN_ID,
    REMEMBERED_FOR,
    Checkpoint,
    Checkpointed,
    ChildTally,
    History,
    Published,
    Standing,
    StoredChunk,
    Suspension,
    written_beside,
)
from storage_postgres import rows as executions
from storage_postgres import workflow_rows as to
from storage_postgres.arrays import plain, texts
from storage_postgres.cancel_verbs import cancel_telling
from storage_postgres.message_verbs import append_messages, hold
from storage_postgres.outbox import emit
from storage_postgres.plan import Plan, Query
from storage_postgres.wake_verbs import apply_wakeups, get_sleeping
from storage_postgres.workflow_rows import Part

__all__ = [
    "checkpoint",
    "children_between",
    "end_turns",
    "histories",
    "hold_turns",
    "is_rich",
    "published_values",
    "stored_chunks",
    "tally_children",
]  # fmt: skip


def is_rich(row: Checkpoint) -> bool:
    """It writes more than entries, which are the third of its fields."""
    return any(row[3:])


def checkpoint(rows: Sequence[Checkpoint], *, note: Note | None = None) -> Plan[Checkpointed]:
    if not rows:
        return Checkpointed({}, frozenset())
    parts: list[Part] = [(row.id, row.fence, row) for row in rows]
    if not any(map(is_rich, rows)):
        return Checkpointed((yield from _append(parts, parts)), frozenset())
    yield from hold([*(row.id for row in rows), *_others(parts)])
    found = yield from _open(parts)
    forgiven = [(row.id, row.fence) for row in rows if row.is_progress]
    if forgiven:
        ids, fences = zip(*forgiven, strict=True)
        yield Query("forgive_deliveries", {"id": plain(ids), "fence": plain(fences)})
    queues = yield from _write([part for part, is_repeated in found if not is_repeated], note)
    fresh = {id_ for (id_, _, _), is_repeated in found if not is_repeated}
    gone = [(row.id, seq) for row in rows if row.id in fresh for seq in row.superseded]
    if gone:
        ids, seqs = zip(*gone, strict=True)
        yield Query("supersede", {"id": plain(ids), "seq": plain(seqs)})
    # With the entries of those that were written before: it gives their moments.
    return Checkpointed((yield from _append(parts, [part for part, _ in found])), frozenset(queues))


def hold_turns(settlements: Sequence[Settlement]) -> Plan[None]:
    """Hold all that a settle with turns of workflows writes; the first thing its transaction does."""
    parts: list[Part] = [(item.id, item.fence, item.workflow) for item in settlements if item.workflow is not None]
    yield from hold(_others(parts), ending=[item.id for item in settlements])


def end_turns(settlements: Sequence[Settlement], note: Note | None) -> Plan[Settled]:
    """First what each turn writes, then all ends: an end sees the messages and the children of all."""
    parts: list[Part] = [(item.id, item.fence, item.workflow) for item in settlements if item.workflow is not None]
    held = [part for part, _ in (yield from _open(parts))]
    if not held:
        return Settled(frozenset(), frozenset())
    queues = yield from _write(held, note)
    if any(part.entries for _, _, part in held):
        yield from _append(held, held)
    turns = {(id_, fence) for id_, fence, _ in held}
    ends = [item for item in settlements if (item.id, item.fence) in turns]
    ((ids, woken),) = yield Query("end_workflow_turns", to.turn_end_columns(ends))
    anew = [(id_, part) for id_, _, part in held if isinstance(part, Suspension) and part.continued is not None]
    if anew:
        kept = [(id_, number) for id_, part in anew for number in part.kept_messages]
        yield Query(
            "forget_history",
            {
                "id": plain(id_ for id_, _ in anew),
                "seen_messages": plain(part.seen_messages for _, part in anew),
                "kept_id": plain(id_ for id_, _ in kept),
                "kept_number": plain(number for _, number in kept),
                "given": GIVEN_ID,
                "remembered_for": REMEMBERED_FOR.total_seconds(),
            },
        )
    yield from emit([notice for item in ends for notice in item.notices])
    return Settled(frozenset(ids), frozenset({*queues, *woken}))


def _others(parts: Sequence[Part]) -> list[str]:
    return [id_ for _, _, part in parts for id_ in written_beside(part)]


def _open(parts: Sequence[Part]) -> Plan[list[tuple[Part, bool]]]:
    """The parts whose fence holds, in their order, and whether each was written before."""
    found = yield Query("open_turns", to.turn_columns(parts))
    return [(parts[place], is_repeated) for place, is_repeated in sorted(found)]


def _append(turns: Sequence[Part], parts: Sequence[Part]) -> Plan[dict[str, Standing]]:
    """Append the entries of parts; gives how the turns stand that still have their fence."""
    columns = to.checkpoint_columns(((id_, fence) for id_, fence, _ in turns), parts)
    return to.standings((yield Query("checkpoint", columns)))


def _write(parts: Sequence[Part], note: Note | None) -> Plan[set[str]]:
    """All but the entries, a kind of it at a time; gives the queues with something to claim."""
    queues = yield from _spawn(parts)
    queues |= yield from _start(parts)
    if any(part.values for _, _, part in parts):
        yield Query("publish", to.value_columns(parts))
    if any(part.chunks for _, _, part in parts):
        yield Query("append_chunks", to.chunk_columns(parts))
    sent = yield from append_messages([message for _, _, part in parts for message in part.messages])
    queues.update(each.ready_queue for each in sent if each.ready_queue is not None)
    queues |= yield from _cancel_children(parts, note)
    if any(row.kind == Kind.SLEEPING for _, _, part in parts for row in (*part.children, *part.starts)):
        queues |= (yield from apply_wakeups(limit=1000, note=note)).ready_queues
    return queues


def _spawn(parts: Sequence[Part]) -> Plan[set[str]]:
    children = [child for _, _, part in parts for child in part.children]
    if not children:
        return set()
    counts = Counter(id_ for id_, _, part in parts for _ in part.children)
    params = {"id": plain(counts), "children": plain(counts.values()), **executions.new_columns(children, "child_")}
    return {queue for (queue,) in (yield Query("spawn_from_turns", params))}


def _start(parts: Sequence[Part]) -> Plan[set[str]]:
    """Store the executions of their own that turns start; gives the queues of those that are due.

    Raises SleepingIdConflict.
    """
    rows = [row for _, _, part in parts for row in part.starts]
    if not rows:
        return set()
    # In the order of every insert: one waits for another of the same key, and two must not wait in a ring.
    ordered = sorted(rows, key=lambda row: (row.task_name, row.sleeping_id or ""))
    stored = {row[0] for row in (yield Query("enqueue", executions.new_columns(ordered)))}
    for row in rows:
        if row.id not in stored and row.sleeping_id is not None:
            yield from _refuse_taken(row.id, row.task_name, row.sleeping_id)
    return {queue for (queue,) in (yield Query("due_queues", {"ids": plain(row.id for row in rows)}))}


def _refuse_taken(id_: str, task_name: str, sleeping_id: str) -> Plan[None]:
    """Raise for a sleeping id that is another's; one that was stored by an earlier try is not."""
    found = yield from get_sleeping(task_name, sleeping_id)
    if found is None:  # retention took it, or this snapshot is older
        raise StorageUnavailable("an execution with the same sleeping id is not visible to this transaction; try again")
    if found.id != id_:
        raise SleepingIdConflict(task_name, sleeping_id)


def _cancel_children(parts: Sequence[Part], note: Note | None) -> Plan[set[str]]:
    pairs = [(child_id, id_) for id_, _, part in parts for child_id in dict.fromkeys(part.cancels)]
    if not pairs:
        return set()
    named, parents = zip(*pairs, strict=True)
    own = [id_ for (id_,) in (yield Query("own_children", {"child": plain(named), "parent": plain(parents)}))]
    error = cancelled(CANCELLED_BY_PARENT)
    _, queues = yield from cancel_telling(
        own, reason=CANCELLED_BY_PARENT, error=error, may_finish=False, force=False, note=note
    )
    return queues


def histories(wanted: Sequence[tuple[str, int, int]]) -> Plan[list[History]]:
    if not wanted:
        return []
    ids, seqs, numbers = zip(*wanted, strict=True)
    found = yield Query("histories", {"id": plain(ids), "seq": plain(seqs), "number": plain(numbers)})
    return to.histories(ids, found)


def tally_children(parent_id: str, ranges: Sequence[tuple[int, int]]) -> Plan[list[ChildTally]]:
    if not ranges:
        return []
    firsts, ends = zip(*ranges, strict=True)
    found = yield Query("tally_children", {"parent": parent_id, "first": plain(firsts), "end": plain(ends)})
    return [ChildTally(finished, failed, tuple(open_ids)) for finished, failed, open_ids in found]


def children_between(
    parent_id: str, first: int, end: int, *, only_failed: bool, limit: int
) -> Plan[list[ChildOutcome]]:
    params = {"parent": parent_id, "first": first, "end": end, "only_failed": only_failed, "limit": max(limit, 0)}
    return [executions.child_outcome(row) for row in (yield Query("children_between", params))]


def published_values(execution_id: str, keys: Sequence[str] | None) -> Plan[list[Published]]:
    params = {"id": execution_id, "keys": None if keys is None else texts(keys)}
    return [Published._make(row) for row in (yield Query("published_values", params))]


def stored_chunks(execution_id: str, *, after: int, limit: int) -> Plan[list[StoredChunk]]:
    params = {"id": execution_id, "after": after, "limit": max(limit, 0)}
    return [StoredChunk._make(row) for row in (yield Query("stored_chunks", params))]
