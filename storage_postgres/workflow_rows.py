"""Turn driver tuples into what workflows keep, and that into the columns of a statement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from durable.execution import NewExecution, Settlement
from durable.workflow_rows import (
    Checkpoint,
    Entry,
    History,
    Message,
    MessageKind,
    NewEntry,
    NewMessage,
    SendOutcome,
    Sent,
    Standing,
    Suspension,
)
from storage_postgres.arrays import known, plain, texts
from storage_postgres.rows import settlement_columns

__all__ = [
    "Part",
    "checkpoint_columns",
    "chunk_columns",
    "existing_params",
    "histories",
    "message_columns",
    "sent",
    "standings",
    "turn_columns",
    "turn_end_columns",
    "value_columns",
]

Part = tuple[str, int, Checkpoint | Suspension]
"""What one turn writes: the execution's id, the fence, and the rest."""
_KINDS = {kind.value: kind for kind in MessageKind}


def turn_columns(parts: Sequence[Part]) -> dict[str, object]:
    """The turns by place, each with the seq of its first entry; None: it has none."""
    return {
        "id": plain(id_ for id_, _, _ in parts),
        "fence": plain(fence for _, fence, _ in parts),
        "seq": plain(part.entries[0].seq if part.entries else None for _, _, part in parts),
    }


def checkpoint_columns(turns: Iterable[tuple[str, int]], parts: Sequence[Part]) -> dict[str, object]:
    """The turns to be looked at, each once, and the entries of those that write."""
    pairs = dict.fromkeys(turns)
    entries = [entry for _, _, part in parts for entry in part.entries]
    owners = [(id_, fence) for id_, fence, part in parts for _ in part.entries]
    seqs, *words = list(zip(*entries, strict=True)) or [()] * len(NewEntry._fields)
    ids, fences = _id_columns(pairs)
    # Nearly always each turn has one.
    entry_ids, entry_fences = (ids, fences) if owners == list(pairs) else _id_columns(owners)
    return {
        "id": ids,
        "fence": fences,
        "entry_id": entry_ids,
        "entry_fence": entry_fences,
        "seq": known(seqs),
        **{name: texts(column) for name, column in zip(NewEntry._fields[1:], words, strict=True)},
        "lock_timeout": None,
    }


def _id_columns(turns: Iterable[tuple[str, int]]) -> tuple[str, str]:
    return known([id_ for id_, _ in turns]), known([fence for _, fence in turns])


def value_columns(parts: Sequence[Part]) -> dict[str, object]:
    """The published values, each key of a workflow once, with the last value given."""
    values = {(id_, key): value for id_, _, part in parts for key, value in part.values}
    return {
        "id": plain(id_ for id_, _ in values),
        "key": texts(key for _, key in values),
        "value": texts(values.values()),
    }


def chunk_columns(parts: Sequence[Part]) -> dict[str, object]:
    chunks = [(id_, chunk) for id_, _, part in parts for chunk in part.chunks]
    return {"id": plain(id_ for id_, _ in chunks), "payload": texts(chunk for _, chunk in chunks)}


def message_columns(rows: Sequence[NewMessage]) -> dict[str, object]:
    return {
        "id": plain(row.execution_id for row in rows),
        "kind": plain(row.kind.value for row in rows),
        "name": texts(row.name for row in rows),
        "payload": texts(row.payload for row in rows),
        "message_id": texts(row.message_id for row in rows),
    }


def turn_end_columns(ends: Sequence[Settlement]) -> dict[str, object]:
    """As of any turn, and when a suspended one goes on."""
    ordered = sorted(ends, key=lambda end: end.id)
    suspensions = [end.workflow or Suspension() for end in ordered]
    columns = settlement_columns(ordered)
    del columns["children"]
    return {
        **columns,
        "is_suspension": plain(end.is_suspension for end in ordered),
        "seen_messages": plain(suspension.seen_messages for suspension in suspensions),
        "wake_at_children": plain(suspension.wake_at_children for suspension in suspensions),
    }


def existing_params(new: NewExecution) -> dict[str, object]:
    """What to ask for what stands in the way of one new execution."""
    return {
        "position": plain([0]),
        "id": plain([new.id]),
        "task_name": texts([new.task_name]),
        "idempotency_key": texts([new.idempotency_key]),
        "idempotency_hash": texts([new.idempotency_hash]),
        "sleeping_id": texts([new.sleeping_id]),
    }


def standings(rows: Iterable[tuple[Any, ...]]) -> dict[str, Standing]:
    """By id."""
    return {row[0]: Standing._make(row) for row in rows}


def sent(row: NewMessage, found: tuple[Any, ...]) -> Sent:
    outcome, *rest = found
    return Sent(row.execution_id, SendOutcome(outcome), *rest)


def histories(ids: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> list[History]:
    """One for each id, by place; the rows of each stand in order."""
    entries: list[list[Entry]] = [[] for _ in ids]
    messages: list[list[Message]] = [[] for _ in ids]
    for place, is_message, *row in rows:
        index = int(place)
        if is_message:
            number, kind, name, payload, message_id, _, at = row
            messages[index].append(Message(number, _KINDS[kind], name, payload, message_id, at))
        else:
            entries[index].append(Entry._make(row))
    return [History(*found) for found in zip(ids, entries, messages, strict=True)]
