"""The verbs of timers as plans, and their part in taking and ending the turns of their owners."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from durable.job import JobKind, NewTurn, TakenTurn, TurnCause
from durable.timer import NewTimer, StoredTimer, TimerEnd, TimerFilter, TimerSet
from storage_postgres import job_rows as to
from storage_postgres.arrays import plain
from storage_postgres.plan import Plan, Query

__all__ = ["cancel_timers", "end_timers", "list_timers", "set_timer", "take_timers"]


def set_timer(new: NewTimer, *, turn: NewTurn) -> Plan[TimerSet]:
    ((*row, queue),) = yield Query("set_timer", to.timer_params(new, turn))
    return TimerSet(to.timer(row), queue)


def cancel_timers(where: TimerFilter) -> Plan[int]:
    ((count,),) = yield Query("cancel_timers", where._asdict())
    assert isinstance(count, int)
    return count


def list_timers(where: TimerFilter, *, limit: int, after: tuple[datetime, str] | None) -> Plan[list[StoredTimer]]:
    if where.id is not None:
        return [to.timer(row) for row in (yield Query("get_timer", {"id": where.id}))]
    at, id_ = after or (None, None)
    params = {"owner": where.owner, "name": where.name, "limit": limit, "after_at": at, "after_id": id_}
    return [to.timer(row) for row in (yield Query("list_timers", params))]


def take_timers(taken: Sequence[TakenTurn]) -> Plan[list[TakenTurn]]:
    """Turns with the timers they start, which are noted as started."""
    due = [
        turn.job.id for turn in taken if turn.job.kind is JobKind.TIMER and turn.job.turn_cause is not TurnCause.NOTHING
    ]
    if not due:
        return list(taken)
    found = [to.timer(row) for row in (yield Query("take_timers", {"job_id": plain(due)}))]
    by_job = {timer.job_id: timer for timer in found}
    return [turn._replace(timer=by_job.get(turn.job.id)) for turn in taken]


def end_timers(ends: Sequence[TimerEnd]) -> Plan[None]:
    if ends:
        yield Query("end_timers", to.timer_end_columns(ends))
