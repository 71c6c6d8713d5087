"""Settle in memory: the ends of turns under their fences, with children, counts and parents."""

from __future__ import annotations

from collections.abc import Sequence

from durable.execution import ChildOutcome, Execution, NewExecution, Settled, Settlement
from durable.job import JobCommit
from durable.memory.claim import held_record
from durable.memory.enqueue import claimable_queues, insert_child
from durable.memory.follow import end_requested
from durable.memory.images import ended_turn
from durable.memory.jobs_append import append_events
from durable.memory.jobs_commit import commit_job
from durable.memory.outbox import emit, note_ends
from durable.memory.parents import tell_parents
from durable.memory.store import Transaction
from durable.memory.wake import meet_rows
from durable.memory.workflow_turns import end_workflow_turns
from durable.storage import Note

__all__ = ["children", "settle", "settled"]


def settle(tx: Transaction, settlements: Sequence[Settlement], *, note: Note | None) -> Settled:
    """Workflows after all others: the children that end with them have then told them."""
    done = _settle(tx, [item for item in settlements if item.workflow is None], note)
    turns = [item for item in settlements if item.workflow is not None]
    if not turns:
        return done
    ended = end_workflow_turns(tx, turns, note)
    return done._replace(accepted=done.accepted | ended.accepted, ready_queues=done.ready_queues | ended.ready_queues)


def _settle(tx: Transaction, settlements: Sequence[Settlement], note: Note | None) -> Settled:
    accepted: list[Execution] = []
    inserted: list[NewExecution] = []
    jobs: list[JobCommit] = []
    due: list[str | None] = []
    later: list[float] = []
    for settlement in settlements:
        record = held_record(tx, settlement.id, settlement.fence)
        if record is None:
            continue
        accepted.append(tx.put(ended_turn(record, settlement, tx.now)))
        emit(tx, settlement.notices)
        for child in settlement.children:
            insert_child(tx, child)
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
    queues.update(claimable_queues(tx, ids), (queue for queue in due if queue is not None))
    cancelled = end_requested(tx)
    note_ends(tx, note, cancelled)
    woken = meet_rows(tx, inserted, note)
    ready = frozenset(queues | woken.ready_queues)
    ids_of = frozenset(record.id for record in accepted)
    return Settled(ids_of, ready, has_cancelled=bool(cancelled), soonest=min(later, default=None))


def _until_next_turn(tx: Transaction, commit: JobCommit) -> list[float]:
    """The seconds until the turn that was planned for a job, unless there is none, or it is due."""
    turn = tx.executions.get(commit.next_turn.id)
    return [] if turn is None or turn.due_at <= tx.now else [(turn.due_at - tx.now).total_seconds()]


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
