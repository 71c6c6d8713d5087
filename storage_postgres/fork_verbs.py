"""A new workflow made from another's history, values, pieces and open approvals, as a plan."""

from __future__ import annotations

from durable.errors import IdempotencyConflict
from durable.execution import NewExecution
from durable.fork_rows import Fork
from storage_postgres import rows as executions
from storage_postgres import workflow_rows as to
from storage_postgres.approval_verbs import open_approval
from storage_postgres.arrays import plain, texts
from storage_postgres.plan import Plan, Query

__all__ = ["fork_workflow"]


def fork_workflow(source_id: str, *, fork: Fork, new: NewExecution) -> Plan[bool]:
    if not (yield Query("hold_source", {"id": source_id})):
        return False
    if (yield Query("enqueue", executions.new_columns([new]))):
        yield from _copied({"id": new.id, "source": source_id, "before": fork.before_seq}, fork)
        return True
    ((_, id_, _),) = yield Query("existing_rows", to.existing_params(new))
    if id_ != new.id:
        raise IdempotencyConflict(new.task_name, new.idempotency_key or "", id_)
    return True


def _copied(cut: dict[str, object], fork: Fork) -> Plan[None]:
    whole = {"id": cut["id"], "source": cut["source"]}
    yield Query("begin_fork", whole)
    changes = {
        "left_out": plain(fork.left_out),
        "seq": plain(each.seq for each in fork.replaced),
        "output": texts(each.output for each in fork.replaced),
        "detail": texts(each.detail for each in fork.replaced),
    }
    yield Query("copy_history", cut | changes)
    yield Query("copy_chunks", cut)
    yield Query("copy_values", whole)
    for approval in fork.approvals:
        yield from open_approval(approval)
