"""Wake-ups in memory: kept until they meet their sleeping task; and deadlines of those nobody woke."""

from __future__ import annotations

from collections.abc import Iterable

from durable.callbacks import queue_of
from durable.execution import Execution, Kind, NewExecution, Settled, Status, WakeResult
from durable.memory.outbox import note_ends
from durable.memory.parents import tell_parents
from durable.memory.records import moved
from durable.memory.store import Transaction, Wakeup
from durable.storage import Note
from durable.stored_errors import EXPIRED
from durable.transitions import Event

__all__ = ["apply_wakeups", "expire_waits", "meet", "meet_rows", "wake"]


def wake(
    tx: Transaction, task_name: str, sleeping_id: str, *, output: str | None, error: str | None, note: Note | None
) -> WakeResult:
    key = (task_name, sleeping_id)
    if tx.wakeups.get(key) is None:
        tx.wakeups.put(key, Wakeup(output, error, tx.now))
    woken = meet(tx, [key], note)
    record = _sleeper(tx, key)
    return WakeResult(None, None) if record is None else WakeResult(record.id, record.status, woken.ready_queues)


def apply_wakeups(tx: Transaction, *, limit: int, note: Note | None) -> Settled:
    sleepers = {key: _sleeper(tx, key) for key, _ in tx.wakeups.items()}
    met = sorted((record.id, key) for key, record in sleepers.items() if record is not None)
    return meet(tx, [key for _, key in met[:limit]], note)


def meet(tx: Transaction, keys: Iterable[tuple[str, str]], note: Note | None) -> Settled:
    """End the waiting executions that have a kept wake-up; one that has already finished makes it void."""
    woken: list[Execution] = []
    for key in keys:
        wakeup, record = tx.wakeups.get(key), _sleeper(tx, key)
        if wakeup is None or record is None:
            continue
        tx.wakeups.remove(key)
        if record.status is Status.WAITING:
            woken.append(tx.put(_woken(tx, record, wakeup)))
    note_ends(tx, note, woken)
    return _ended(tx, woken)


def meet_rows(tx: Transaction, rows: Iterable[NewExecution], note: Note | None) -> Settled:
    """The same for the sleeping tasks among rows that were just stored."""
    names = [(row.task_name, row.sleeping_id) for row in rows if row.kind is Kind.SLEEPING]
    return meet(tx, [(task_name, sleeping_id) for task_name, sleeping_id in names if sleeping_id is not None], note)


def _ended(tx: Transaction, ended: list[Execution]) -> Settled:
    specs = [record.on_complete for record in ended if record.on_complete is not None]
    callbacks = {queue for queue in map(queue_of, specs) if queue}
    return Settled(frozenset(record.id for record in ended), frozenset(tell_parents(tx, ended) | callbacks))


def _woken(tx: Transaction, record: Execution, wakeup: Wakeup) -> Execution:
    if wakeup.error is not None:
        return moved(record, Event.WAKE_FAILED, tx.now, output=None, error=wakeup.error)
    output = wakeup.output if wakeup.output is not None else "null"
    return moved(record, Event.WAKE_COMPLETED, tx.now, output=output, error=None)


def _sleeper(tx: Transaction, key: tuple[str, str]) -> Execution | None:
    id_ = tx.sleepers.get(key)
    return tx.executions.get(id_) if id_ is not None else None


def expire_waits(tx: Transaction, *, limit: int, note: Note | None) -> Settled:
    late = [
        (record.wait_expires_at, record.id, record)
        for record in tx.executions.values()
        if record.status is Status.WAITING and record.wait_expires_at is not None and record.wait_expires_at <= tx.now
    ]
    ended = [
        tx.put(moved(record, Event.EXPIRE_WAIT, tx.now, error=EXPIRED, reason="expired"))
        for _, _, record in sorted(late)[:limit]
    ]
    note_ends(tx, note, ended)
    return _ended(tx, ended)
