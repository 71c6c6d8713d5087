"""Cancel and close as plans: what ends at once, and workflows that are asked to end by a message."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from durable.execution import CancelResult, Status
from durable.storage import Note
from durable.workflow_rows import CANCEL_MESSAGE_ID, MessageKind, NewMessage, SendOutcome, Sent, cancel_payload
from storage_postgres.arrays import plain
from storage_postgres.message_verbs import append_messages
from storage_postgres.outbox import note_ends
from storage_postgres.plan import Plan, Query

__all__ = ["cancel", "cancel_all", "cancel_telling", "close_trees"]


def cancel(
    ids: Sequence[str],
    *,
    reason: str,
    error: str,
    may_finish: bool,
    force: bool = False,
    request_id: str | None = None,
    note: Note | None = None,
) -> Plan[list[CancelResult]]:
    plan = cancel_telling(
        ids, reason=reason, error=error, may_finish=may_finish, force=force, request_id=request_id, note=note
    )
    return (yield from plan)[0]


def cancel_telling(
    ids: Sequence[str],
    *,
    reason: str,
    error: str,
    may_finish: bool,
    force: bool,
    request_id: str | None = None,
    note: Note | None,
) -> Plan[tuple[list[CancelResult], set[str]]]:
    """The results, and the queues in which a workflow that was asked to end became claimable."""
    params = {"ids": plain(ids), "reason": reason, "error": error, "may_finish": may_finish, "force": force}
    found = yield Query("cancel", params)
    yield from note_ends([id_ for id_, _, is_open, *_ in found if is_open], note)
    sent = yield from _ask([id_ for id_, *_, is_asked in found if is_asked], reason, request_id)
    asked = {each.execution_id for each in sent if each.outcome is SendOutcome.ACCEPTED}
    before = [each.execution_id for each in sent if each.outcome is SendOutcome.DUPLICATE]
    if before and request_id is not None:
        params = {"ids": plain(before), "cancel_id": CANCEL_MESSAGE_ID, "request": request_id}
        asked.update(id_ for (id_,) in (yield Query("asked_by_request", params)))
    by_id = {
        id_: CancelResult(id_, Status(status), is_open, is_spared or id_ in asked, is_turn)
        for id_, status, is_open, is_spared, is_turn, _ in found
    }
    queues = {each.ready_queue for each in sent if each.ready_queue is not None}
    return [by_id.get(id_, CancelResult(id_, None, False)) for id_ in ids], queues


def _ask(ids: Sequence[str], reason: str, request_id: str | None = None) -> Plan[list[Sent]]:
    """Ask workflows, whose rows the transaction holds, to end; those that were asked before are left alone."""
    payload = cancel_payload(reason, request_id)
    rows = [NewMessage(id_, MessageKind.CANCEL, "cancel", payload, CANCEL_MESSAGE_ID) for id_ in ids]
    return (yield from append_messages(rows))


def cancel_all(
    *,
    before: datetime,
    queue: str | None,
    task_name: str | None,
    limit: int,
    reason: str,
    error: str,
    may_finish: bool,
    force: bool = False,
    note: Note | None = None,
) -> Plan[list[CancelResult]]:
    params = {
        "before": before,
        "queue": queue,
        "task_name": task_name,
        "limit": limit,
        "may_finish": may_finish,
        "force": force,
        "cancel_id": CANCEL_MESSAGE_ID,
    }
    found = yield Query("unfinished", params)
    if not found:
        return []
    ids = [id_ for (id_,) in found]
    return (yield from cancel(ids, reason=reason, error=error, may_finish=may_finish, force=force, note=note))


def close_trees(ids: Sequence[str], *, reason: str, error: str, note: Note | None = None) -> Plan[list[CancelResult]]:
    found = yield Query("close_trees", {"ids": plain(ids), "reason": reason, "error": error})
    yield from note_ends([id_ for id_, _, is_cancelled, _ in found if is_cancelled], note)
    to_ask = [id_ for id_, _, is_cancelled, is_spared in found if not is_cancelled and not is_spared]
    sent = (yield from _ask(to_ask, reason)) if to_ask else []
    if not all(is_cancelled for _, _, is_cancelled, _ in found):
        yield Query("wait_for_asked", {"ids": plain(ids)})
    asked = {each.execution_id for each in sent if each.outcome is SendOutcome.ACCEPTED}
    return [
        CancelResult(id_, Status(status), is_cancelled, id_ in asked)
        for id_, status, is_cancelled, _ in found
        if is_cancelled or id_ in asked
    ]
