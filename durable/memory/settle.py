"""Settle in memory: the ends of turns under their fences, with children, counts and parents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from durable.errors import IdempotencyConflict, SleepingIdConflict, StorageError, TransitionRefused
from durable.execution import ChildOutcome, Execution, Kind, NewExecution, Settled, Settlement, Status
from durable.job import JobCommit
from durable.memory.claim import held_record
from durable.memory.enqueue import store_row
from durable.memory.follow import end_requested
from durable.memory.jobs_append import append_events
from durable.memory.jobs_commit import commit_job
from durable.memory.outbox import emit, note_ends
from durable.memory.parents import tell_parents
from durable.memory.records import state_of, transferred
from durable.memory.store import Transaction
from durable.memory.wake import meet
from durable.storage import Note
from durable.transitions import TRANSITIONS, Event, State, apply

__all__ = ["children", "settle", "settled"]

_NOT_BY_A_TURN: Final = frozenset({Event.CANCEL, Event.EXPIRE_LEASE})


def settle(tx: Transaction, settlements: Sequence[Settlement], *, note: Note | None) -> Settled:
    accepted: list[Execution] = []
    inserted: list[NewExecution] = []
    jobs: list[JobCommit] = []
    due: list[str | None] = []
    later: list[float] = []
    for settlement in settlements:
        record = held_record(tx, settlement.id, settlement.fence)
        if record is None:
            continue
        accepted.append(tx.put(_settled(tx, record, settlement)))
        emit(tx, settlement.notices)
        for child in settlement.children:
            _insert_child(tx, child)
            inserted.append(child)
        if settlement.job is not None:
            due.append(commit_job(tx, record, settlement.job))
            later += _until_next_turn(tx, settlement.job)
            jobs.append(settlement.job)
    # After all commits: a job that one of them ends begins anew with what another sends to it.
    due += [sent.ready_queue for sent in append_events(tx, [event for job in jobs for event in job.sends])]
    queues = tell_parents(tx, [record for record in accepted if record.is_finished])
    ids = [record.id for record in accepted] + [child.id for child in inserted]
    # Before what was asked to end is ended: a hint too many does no harm, and the database gives it as well.
    queues.update(_claimable_queues(tx, ids), (queue for queue in due if queue is not None))
    cancelled = end_requested(tx)
    note_ends(tx, note, cancelled)
    names = [(child.task_name, child.sleeping_id) for child in inserted if child.kind is Kind.SLEEPING]
    woken = meet(tx, [(task_name, sleeping_id) for task_name, sleeping_id in names if sleeping_id is not None], note)
    ready = frozenset(queues | woken.ready_queues)
    ids_of = frozenset(record.id for record in accepted)
    return Settled(ids_of, ready, has_cancelled=bool(cancelled), soonest=min(later, default=None))


def _until_next_turn(tx: Transaction, commit: JobCommit) -> list[float]:
    """The seconds until the turn that was planned for a job, unless there is none, or it is due."""
    turn = tx.executions.get(commit.next_turn.id)
    return [] if turn is None or turn.due_at <= tx.now else [(turn.due_at - tx.now).total_seconds()]


def _settled(tx: Transaction, record: Execution, settlement: Settlement) -> Execution:
    return transferred(
        record,
        _image(state_of(record), settlement),
        tx.now,
        delay=settlement.delay,
        output=settlement.output,
        run_output=settlement.run_output,
        error=settlement.error,
        reason=settlement.reason,
    )


def _image(state: State, settlement: Settlement) -> State:
    """The state after the turn, as the machine gives it for the event whose image the settlement is.

    A settlement names where the turn leads, not the event. One that is the image of no event was not built from
    this turn: TransitionRefused.
    """
    count = len(settlement.children)
    wanted = (settlement.status, settlement.phase, settlement.attempts, settlement.deliveries, settlement.iteration)
    for event, statuses in TRANSITIONS[state.status].items():
        if event in _NOT_BY_A_TURN or settlement.status not in statuses:
            continue
        if event is Event.SPAWN_FINALIZE and count != 1:
            continue
        after = apply(state, event, children=count)
        inserted = after.active_children_count - state.active_children_count
        if (after.status, after.phase, after.attempts, after.deliveries, after.iteration, inserted) == (*wanted, count):
            return after
    raise TransitionRefused(state.status, f"a settlement as {settlement.status}", "no event of a turn leads there")


def _insert_child(tx: Transaction, child: NewExecution) -> None:
    """A child is the parent's own: it is never another execution that happens to have its id or key."""
    if tx.executions.get(child.id) is not None:
        raise StorageError(f"a child was given the id of a stored execution: {child.id}; nothing was written")
    if child.idempotency_key is not None:
        holder = tx.keys.get((child.task_name, child.idempotency_key))
        if holder is not None:
            raise IdempotencyConflict(child.task_name, child.idempotency_key, holder)
    if child.sleeping_id is not None and tx.sleepers.get((child.task_name, child.sleeping_id)) is not None:
        raise SleepingIdConflict(child.task_name, child.sleeping_id)
    store_row(tx, child)


def _claimable_queues(tx: Transaction, ids: Sequence[str]) -> set[str]:
    records = [tx.executions.get(id_) for id_ in ids]
    return {
        record.queue
        for record in records
        if record is not None and record.status is Status.READY and record.due_at <= tx.now
    }


def settled(tx: Transaction, pairs: Sequence[tuple[str, int]]) -> frozenset[str]:
    found = [(tx.executions.get(id_), fence) for id_, fence in pairs]
    return frozenset(
        record.id
        for record, fence in found
        if record is not None and record.settled_fence == fence and record.fence > fence
    )


def children(tx: Transaction, parent_ids: Sequence[str]) -> list[ChildOutcome]:
    found = [record for record in tx.executions.values() if record.parent_id in parent_ids]
    outcomes = [
        ChildOutcome(
            record.parent_id or "", record.child_index or 0, record.id, record.task_name, record.status,
            record.output, record.error, record.is_finalize,
        )
        for record in found
    ]  # fmt: skip
    return sorted(outcomes, key=lambda child: (child.parent_id, child.is_finalize, child.child_index))
