"""What a running workflow writes, in memory: its checkpoints, and the ends of its turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from durable.errors import SleepingIdConflict
from durable.execution import FINISHED, Execution, Settled, Settlement, Status
from durable.memory.approvals import withdraw_approvals
from durable.memory.cancel import cancel_telling
from durable.memory.claim import held_record
from durable.memory.enqueue import claimable_queues, existing_for, insert_child, store_row
from durable.memory.images import ended_turn
from durable.memory.outbox import emit
from durable.memory.parents import is_awaited, tell_parents
from durable.memory.records import resumed
from durable.memory.store import Transaction
from durable.memory.wake import meet_rows
from durable.memory.workflow_messages import send_messages
from durable.storage import Note
from durable.workflow_rows import (
    CANCELLED_BY_PARENT,
    GIVEN_ID,
    REMEMBERED_FOR,
    Checkpoint,
    Checkpointed,
    Entry,
    Message,
    MessageKind,
    NewEntry,
    Published,
    Standing,
    StoredChunk,
    Suspension,
)

__all__ = ["checkpoint", "end_workflow_turns"]


def checkpoint(tx: Transaction, rows: Sequence[Checkpoint], *, note: Note | None) -> Checkpointed:
    held = [row for row in rows if held_record(tx, row.id, row.fence) is not None]
    for row in held:
        record = tx.executions.get(row.id)
        if record is not None and row.is_progress and record.deliveries > 1:
            tx.put(record._replace(deliveries=1, updated_at=tx.now))
    before = {row.id: _written_at(tx, row) for row in held if _is_repeated(tx, row.id, row.entries)}
    fresh = [row for row in held if not _is_repeated(tx, row.id, row.entries)]
    queues = _write(tx, [(row.id, row) for row in fresh], note)
    for row in fresh:
        if row.superseded:
            kept = (entry for entry in tx.history.get(row.id) or () if entry.seq not in row.superseded)
            tx.history.put(row.id, tuple(kept))
    records = [tx.executions.get(row.id) for row in held]
    return Checkpointed(
        {
            record.id: Standing(
                record.id, record.message_count, record.active_children_count, before.get(record.id, tx.now), tx.now
            )
            for record in records
            if record is not None
        },
        frozenset(queues),
    )


def _written_at(tx: Transaction, row: Checkpoint) -> datetime:
    """When the entries of a checkpoint were stored that is given again."""
    seqs = {entry.seq for entry in row.entries}
    return max(entry.at for entry in tx.history.get(row.id) or () if entry.seq in seqs)


def _is_repeated(tx: Transaction, id_: str, entries: Sequence[NewEntry]) -> bool:
    stored = tx.history.get(id_)
    return bool(stored and entries and stored[-1].seq >= entries[0].seq)


def _write(tx: Transaction, parts: Sequence[tuple[str, Checkpoint | Suspension]], note: Note | None) -> set[str]:
    """All that checkpoints and ends of turns hold, a kind of it at a time; gives the queues with something to claim."""
    for id_, part in parts:
        _spawn(tx, id_, part)
        for row in part.starts:
            found = existing_for(tx, row)
            if found is None:
                store_row(tx, row)
            elif found.is_conflict:
                raise SleepingIdConflict(row.task_name, row.sleeping_id or "")
        _publish(tx, id_, part.values)
        _append_chunks(tx, id_, part.chunks)
    sent = send_messages(tx, [message for _, part in parts for message in part.messages])
    queues = {each.ready_queue for each in sent if each.ready_queue is not None}
    for id_, part in parts:
        queues |= _cancel_children(tx, id_, part.cancels, note)
        _append_entries(tx, id_, part.entries)
    spawned = [child for _, part in parts for child in (*part.children, *part.starts)]
    queues |= claimable_queues(tx, [child.id for child in spawned])
    return queues | meet_rows(tx, spawned, note).ready_queues


def _spawn(tx: Transaction, id_: str, part: Checkpoint | Suspension) -> None:
    record, count = tx.executions.get(id_), len(part.children)
    if record is not None and count:
        counted = record._replace(
            children_count=record.children_count + count,
            active_children_count=record.active_children_count + count,
            updated_at=tx.now,
        )
        tx.put(counted)
    for child in part.children:
        insert_child(tx, child)


def _publish(tx: Transaction, id_: str, values: Iterable[tuple[str, str]]) -> None:
    published = dict(tx.published.get(id_) or {})
    for key, value in dict(values).items():
        before = published.get(key)
        published[key] = Published(key, value, before.version + 1 if before else 1, tx.now)
    if published:
        tx.published.put(id_, published)


def _append_chunks(tx: Transaction, id_: str, chunks: Sequence[str]) -> None:
    if chunks:
        stored = tx.chunks.get(id_) or ()
        new = [StoredChunk(number, payload, tx.now) for number, payload in enumerate(chunks, len(stored) + 1)]
        tx.chunks.put(id_, (*stored, *new))


def _cancel_children(tx: Transaction, id_: str, ids: Sequence[str], note: Note | None) -> set[str]:
    named = [tx.executions.get(child_id) for child_id in dict.fromkeys(ids)]
    own = [child.id for child in named if child is not None and child.parent_id == id_]
    return cancel_telling(tx, own, reason=CANCELLED_BY_PARENT, may_finish=False, force=False, note=note)[1]


def _append_entries(tx: Transaction, id_: str, entries: Sequence[NewEntry]) -> None:
    if entries:
        tx.history.put(id_, (*(tx.history.get(id_) or ()), *(Entry(*entry, at=tx.now) for entry in entries)))


def end_workflow_turns(tx: Transaction, settlements: Sequence[Settlement], note: Note | None) -> Settled:
    """First what each turn writes, then all ends: an end sees the messages and the children of all."""
    turns = [item for item in settlements if held_record(tx, item.id, item.fence) is not None]
    queues = _write(tx, [(item.id, item.workflow) for item in turns if item.workflow is not None], note)
    ids = {item.id for item in turns}
    records = [tx.executions.get(item.id) for item in turns if item.status in FINISHED]
    own = Counter(record.parent_id for record in records if record is not None and record.parent_id in ids)
    failing = {item.id for item in turns if item.status in FINISHED and item.status is not Status.COMPLETED}
    failed = Counter(record.parent_id for record in records if record is not None and record.id in failing)
    ended = [_end(tx, item, own[item.id], failed[item.id]) for item in turns]
    queues |= tell_parents(tx, [record for record in ended if record.is_finished and record.parent_id not in ids])
    return Settled(frozenset(ids), frozenset(queues | claimable_queues(tx, ids)))


def _end(tx: Transaction, settlement: Settlement, own_ended: int, own_failed: int) -> Execution:
    """One end; `own_ended` of its children end with it, and of these so many without a result."""
    record = held_record(tx, settlement.id, settlement.fence)
    suspension = settlement.workflow
    assert record is not None
    assert suspension is not None
    counted = record._replace(active_children_count=record.active_children_count - own_ended)
    after = ended_turn(counted, settlement, tx.now)
    wake_at_children = suspension.wake_at_children if settlement.is_suspension else None
    after = after._replace(wake_at_children=wake_at_children, message_count=after.message_count + own_failed)
    if settlement.is_suspension and (after.message_count > suspension.seen_messages or is_awaited(after)):
        after = resumed(after, tx.now)
    if suspension.continued is not None:
        _forget(tx, after.id, suspension)
    emit(tx, settlement.notices)
    return tx.put(after)


def _forget(tx: Transaction, id_: str, suspension: Suspension) -> None:
    """What a workflow that continues as new leaves behind: of the messages it has met their ids."""
    tx.history.remove(id_)
    withdraw_approvals(tx, id_)
    left: list[Message] = []
    for message in tx.messages.get(id_) or ():
        if message.number > suspension.seen_messages or message.number in suspension.kept_messages:
            left.append(message)
        elif _is_remembered(tx, message):
            # Below zero, where no replay reads.
            left.append(message._replace(number=-abs(message.number), payload=""))
    tx.messages.put(id_, tuple(left))


def _is_remembered(tx: Transaction, message: Message) -> bool:
    if message.message_id is None or message.kind is MessageKind.CANCEL:
        return False
    return message.message_id.startswith(GIVEN_ID) or message.at > tx.now - REMEMBERED_FOR
