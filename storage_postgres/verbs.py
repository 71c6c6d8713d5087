"""The verbs as plans: arguments → queries → rows → records. No connection, no colour."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from itertools import repeat
from typing import Final, TypeVar

from durable.alike import Alike
from durable.errors import StorageUnavailable
from durable.execution import (
    FINISHED,
    PRIORITIES,
    RECORD_VERSION,
    ChildOutcome,
    Claimed,
    Enqueued,
    Execution,
    FinishedExecution,
    Kind,
    NewExecution,
    QueueLevel,
    Recovered,
    Retired,
    Settled,
    Settlement,
    Status,
)
from durable.first_start import first_claim
from durable.pool_rows import PoolConfig, PooledClaim
from durable.storage import Defect, Duties, ExecutionFilter, ExecutorRow, NextStart, Note
from storage_postgres import rows as to
from storage_postgres.arrays import plain, texts
from storage_postgres.job_verbs import commit_jobs, hold_jobs
from storage_postgres.outbox import note_ends
from storage_postgres.plan import Plan, Query, Undo
from storage_postgres.wake_verbs import apply_wakeups
from storage_postgres.workflow_verbs import end_turns, hold_turns

T = TypeVar("T")
_LEVELS = tuple(reversed(PRIORITIES))
_BEFORE_ALL_IDS = "00000000-0000-0000-0000-000000000000"
PART: Final = 1_000
"""So many executions alike are one statement. While a larger one is made, the server and the event loop would wait for
longer; a smaller one costs more for itself."""
_NOTHING_SETTLED = Settled(frozenset(), frozenset())


def _pairs(pairs: Sequence[tuple[str, int]]) -> dict[str, object]:
    ordered = sorted(pairs)
    return {"id": plain(id_ for id_, _ in ordered), "fence": plain(fence for _, fence in ordered)}


# --- enqueue -------------------------------------------------------------------------------------------------


def enqueue(
    rows: Sequence[NewExecution], *, all_or_nothing: bool, note: Note | None = None, is_bounded: bool = False
) -> Plan[list[Enqueued]]:
    """`is_bounded`: the plan is driven with a bound for how long it waits, which the statement for one row lacks."""
    if not rows:
        return []
    one = Query("enqueue_one", to.new_row(rows[0])) if len(rows) == 1 and not is_bounded else None
    stored = {row[0] for row in (yield one or Query("enqueue", to.new_columns(sorted(rows, key=_by_key))))}
    if len(stored) < len(rows):
        results = yield from _meet_existing(rows, stored)
    else:
        results = [Enqueued(row.id, True, False) for row in rows]
    if all_or_nothing and any(result.is_conflict for result in results):
        raise Undo([result._replace(is_new=False) for result in results])
    if any(row.kind == Kind.SLEEPING for row in rows):
        yield from apply_wakeups(limit=1000, note=note)
    return results


def enqueue_alike(alike: Alike) -> Plan[list[Enqueued]]:
    """As `enqueue`, but one id that is there fails all of them. More than fit into a part need a transaction."""
    parts = (to.alike_columns(alike[start : start + PART]) for start in range(PART, len(alike), PART))
    yield Query("enqueue_alike", to.alike_columns(alike[:PART]), parts if len(alike) > PART else ())
    return [*map(Enqueued._make, zip(alike.ids, repeat(True), repeat(False)))]


def enqueue_started(row: NewExecution, *, executor_id: str, lease: float) -> Plan[Claimed]:
    params = {**to.lone_row(row), "executor_id": executor_id, "lease": lease}
    ((created_at,),) = yield Query("enqueue_started", params)
    return first_claim(row, created_at)


def enqueue_lone(row: NewExecution) -> Plan[list[Enqueued]]:
    """As `enqueue`, of a root that nothing but its id can stand in the way of, and then it fails."""
    yield Query("enqueue_lone", to.lone_row(row))
    return [Enqueued(row.id, True, False)]


def _by_key(row: NewExecution) -> tuple[str, str, str]:
    """The order of every insert: an insert waits for another one of the same key, and two must not wait in a ring."""
    return row.task_name, row.idempotency_key or "", row.sleeping_id or ""


def _meet_existing(rows: Sequence[NewExecution], stored: set[str]) -> Plan[list[Enqueued]]:
    """What stands for the rows that were not stored, asked in a statement of its own to see what won the race."""
    missing = [(position, row) for position, row in enumerate(rows) if row.id not in stored]
    found = yield Query(
        "existing_rows",
        {
            "position": plain(position for position, _ in missing),
            "id": plain(row.id for _, row in missing),
            "task_name": texts(row.task_name for _, row in missing),
            "idempotency_key": texts(row.idempotency_key for _, row in missing),
            "idempotency_hash": texts(row.idempotency_hash for _, row in missing),
            "sleeping_id": texts(row.sleeping_id for _, row in missing),
        },
    )
    by_position = {position: (id_, is_same) for position, id_, is_same in found}
    results: list[Enqueued] = []
    for position, row in enumerate(rows):
        if row.id in stored:
            results.append(Enqueued(row.id, True, False))
            continue
        if position not in by_position:
            # What stood in the way is not visible here: retention took it, or the caller's snapshot is older.
            raise StorageUnavailable("an execution with the same key is not visible to this transaction; try again")
        id_, is_same = by_position[position]
        results.append(Enqueued(id_, id_ == row.id, not is_same))
    return results


# --- claim ---------------------------------------------------------------------------------------------------


def claim(
    *, executor_id: str, queues: Sequence[str], task_names: Sequence[str], limit: int, lease: float,
    after: Mapping[QueueLevel, str] | None = None,
) -> Plan[list[Claimed]]:  # fmt: skip
    if limit <= 0 or not queues or not task_names:
        return []
    lanes = [(queue, level) for level in _LEVELS for queue in queues]
    found = yield Query(
        "claim",
        {
            "queues": texts(queue for queue, _ in lanes),
            "priorities": plain(level for _, level in lanes),
            "after": plain((after or {}).get(lane) for lane in lanes),
            "task_names": texts(task_names),
            "executor_id": executor_id,
            "limit": limit,
            "lease": lease,
            "record_version": RECORD_VERSION,
        },
    )
    return to.claimed_in_order(found)


def claim_pooled(
    *, executor_id: str, pools: Sequence[str], task_names: Sequence[str], limit: int, lease: float
) -> Plan[PooledClaim]:
    if limit <= 0 or not pools or not task_names:
        return PooledClaim([], None)
    found = yield Query(
        "claim_pooled",
        {
            "pools": texts(pools),
            "task_names": texts(task_names),
            "record_version": RECORD_VERSION,
            "executor_id": executor_id,
            "lease": lease,
            "limit": limit,
        },
    )
    wait = found[-1][-1] if found else None
    turns = found if wait is None else found[:-1]
    return PooledClaim([to.claimed(row[:-1]) for row in turns], wait)


def claim_callback(execution_id: str, *, executor_id: str, lease: float) -> Plan[Claimed | None]:
    found = yield Query("claim_callback", {"id": execution_id, "executor_id": executor_id, "lease": lease})
    return to.claimed(found[0]) if found else None


def count_starts(held: Sequence[tuple[str, int]]) -> Plan[frozenset[str]]:
    if not held:
        return frozenset()
    found = yield Query("count_starts", _pairs(held))
    return frozenset(id_ for (id_,) in found)


def renew(held: Sequence[tuple[str, int]], *, lease: float) -> Plan[frozenset[str]]:
    if not held:
        return frozenset()
    found = yield Query("renew", {**_pairs(held), "lease": lease})
    return frozenset(id_ for (id_,) in found)


def leased(held: Sequence[tuple[str, int]]) -> Plan[frozenset[str]]:
    return frozenset(id_ for (id_,) in (yield Query("leased", _pairs(held))))


def held_rows(ids: Sequence[str]) -> Plan[frozenset[str]]:
    return frozenset(id_ for (id_,) in (yield Query("held_rows", {"ids": plain(sorted(ids))})))


def heartbeat(beats: Sequence[tuple[str, int, str]]) -> Plan[frozenset[str]]:
    if not beats:
        return frozenset()
    ids, fences, details = zip(*sorted(beats), strict=True)
    found = yield Query("heartbeat", {"id": plain(ids), "fence": plain(fences), "progress": texts(details)})
    return frozenset(id_ for (id_,) in found)


# --- settle --------------------------------------------------------------------------------------------------


def settle(settlements: Sequence[Settlement], *, note: Note | None = None) -> Plan[Settled]:
    """One statement, unless turns of jobs end: their jobs are held first and written after what was accepted.

    Turns of workflows take several as well.
    """
    if settlements and is_bare(settlements):
        ((count, ids),) = yield Query("settle_bare", to.bare_columns(settlements))
        return Settled(_accepted(settlements, count, ids), frozenset())
    if not any(item.job for item in settlements):
        return (yield from _settle(settlements, note))
    busy = yield from hold_jobs(settlements)
    settled = yield from _settle([item for item in settlements if item.id not in busy], note)
    commits = {item.id: item.job for item in settlements if item.job is not None and item.id in settled.accepted}
    if not commits:
        return settled._replace(busy=busy)
    queues, soonest = yield from commit_jobs(commits)
    return settled._replace(ready_queues=settled.ready_queues | queues, busy=busy, soonest=soonest)


def is_bare(settlements: Sequence[Settlement]) -> bool:
    """Whether all of these are results of executions without parents, with nothing to be written beside them."""
    return not [item for item in settlements if not item.is_bare or item.notices or item.job]


def _accepted(settlements: Sequence[Settlement], count: int, ids: Sequence[str] | None) -> frozenset[str]:
    """The ids are told unless all were accepted."""
    return frozenset([item.id for item in settlements] if ids is None or count == len(settlements) else ids)


def _settle(settlements: Sequence[Settlement], note: Note | None) -> Plan[Settled]:
    """Turns of workflows after all others, so that they see the ends of their children; all of it held before."""
    turns = [item for item in settlements if item.workflow is not None]
    if not turns:
        return (yield from _settle_plain(settlements, note))
    yield from hold_turns(settlements)
    plain_ends = [item for item in settlements if item.workflow is None]
    done = yield from _settle_plain(plain_ends, note)
    ended = yield from end_turns(turns, note)
    return Settled(done.accepted | ended.accepted, done.ready_queues | ended.ready_queues)


def _settle_plain(settlements: Sequence[Settlement], note: Note | None) -> Plan[Settled]:
    if not settlements:
        return _NOTHING_SETTLED
    spawned = [child for item in settlements for child in item.children]
    ((count, ids, queues, *cancels),) = yield _settling(settlements, spawned)
    accepted = _accepted(settlements, count, ids)
    if note is not None:
        yield from _note_requested([item.id for item in settlements if item.status not in FINISHED], note)
    if any(child.kind == Kind.SLEEPING for child in spawned):
        woken = yield from apply_wakeups(limit=1000, note=note)
        queues = {*queues, *woken.ready_queues}
    return Settled(accepted, frozenset(queues), has_cancelled=any(cancels))


def _note_requested(put_back: Sequence[str], note: Note) -> Plan[None]:
    """Tell of those that did not end, and were cancelled for it because they had been asked to end."""
    if put_back:
        found = yield Query("cancelled_among", {"ids": plain(put_back)})
        yield from note_ends([id_ for (id_,) in found], note)


def _settling(settlements: Sequence[Settlement], spawned: Sequence[NewExecution]) -> Query:
    """The shortest statement for what there is."""
    columns = to.settlement_columns(settlements)
    if any(item.notices for item in settlements):
        notes = to.settled_notice_columns(settlements)
        return Query("settle_and_note", columns | to.new_columns(spawned, "child_") | notes)
    if spawned or any(item.status not in FINISHED for item in settlements):
        return Query("settle_and_spawn", columns | to.new_columns(spawned, "child_"))
    return Query("settle", columns)


def settled(pairs: Sequence[tuple[str, int]]) -> Plan[frozenset[str]]:
    found = yield Query("settled", _pairs(pairs))
    return frozenset(id_ for (id_,) in found)


def children(parent_ids: Sequence[str]) -> Plan[list[ChildOutcome]]:
    found = yield Query("children", {"parent_ids": plain(parent_ids)})
    return [to.child_outcome(row) for row in found]


# --- recover, close ------------------------------------------------------------------------------------------


def duties() -> Plan[Duties]:
    (row,) = yield Query("duties", {})
    return Duties._make(row)


def next_due(*, queues: Sequence[str], task_names: Sequence[str]) -> Plan[datetime | None]:
    lanes = [(queue, level) for level in _LEVELS for queue in queues]
    ((at,),) = yield Query(
        "next_due",
        {
            "queues": texts(queue for queue, _ in lanes),
            "priorities": plain(level for _, level in lanes),
            "task_names": texts(task_names),
            "record_version": RECORD_VERSION,
        },
    )
    assert at is None or isinstance(at, datetime)
    return at


def next_start(
    *, queues: Sequence[str], pools: Sequence[str], task_names: Sequence[str], after: datetime | None, within: float
) -> Plan[NextStart]:
    lanes = [(queue, level) for level in _LEVELS for queue in queues]
    (row,) = yield Query(
        "next_start",
        {
            "queues": texts(queue for queue, _ in lanes),
            "priorities": plain(level for _, level in lanes),
            "pools": texts(pools),
            "task_names": texts(task_names),
            "record_version": RECORD_VERSION,
            "after": after,
            "within": within,
        },
    )
    return NextStart._make(row)


def recover(*, limit: int, lost_error: str, poisoned_error: str, note: Note | None = None) -> Plan[list[Recovered]]:
    found = yield Query("recover", {"limit": limit, "lost_error": lost_error, "poisoned_error": poisoned_error})
    yield from note_ends([id_ for id_, *_ in found], note)
    return [Recovered(id_, name, Status(status), queue, executor) for id_, name, status, queue, executor in found]


def pick_up_cancelled(*, executor_id: str, limit: int) -> Plan[list[str]]:
    return [id_ for (id_,) in (yield Query("pick_up_cancelled", {"executor_id": executor_id, "limit": limit}))]


def redrive(ids: Sequence[str]) -> Plan[list[str]]:
    return [id_ for (id_,) in (yield Query("redrive", {"ids": plain(ids)}))]


def claim_closes(*, limit: int, lease: float) -> Plan[list[str]]:
    return [id_ for (id_,) in (yield Query("claim_closes", {"limit": limit, "lease": lease}))]


def recover_closes(*, limit: int) -> Plan[int]:
    return len((yield Query("recover_closes", {"limit": limit})))


# --- pools ---------------------------------------------------------------------------------------------------


def ensure_pools(wanted: Sequence[PoolConfig]) -> Plan[list[PoolConfig]]:
    if not wanted:
        return []
    yield Query("ensure_pools", to.pool_columns(wanted))
    stored = {pool.name: pool for pool in (yield from pools([pool.name for pool in wanted]))}
    return [stored[pool.name] for pool in wanted]


def configure_pool(pool: PoolConfig, *, fields: Collection[str]) -> Plan[PoolConfig]:
    yield Query("ensure_pools", to.pool_columns([pool]))
    (row,) = yield Query("configure_pool", {**pool._asdict(), "fields": texts(sorted(fields))})
    if not {"max_per_key", "keep_order"}.isdisjoint(fields):
        yield Query("mark_busy_keys", {"name": pool.name})
    return PoolConfig._make(row)


def pools(names: Sequence[str] | None) -> Plan[list[PoolConfig]]:
    found = yield Query("pools", {"names": None if names is None else texts(names)})
    return [PoolConfig._make(row) for row in found]


def retire(*, older_than: float, limit: int, after: str | None) -> Plan[Retired]:
    if after is None:
        yield Query("retire_wakeups", {"older_than": older_than, "limit": limit})
    first = after or _BEFORE_ALL_IDS
    ((jobs,),) = yield Query("retire_jobs", {"older_than": older_than, "limit": limit})
    ((count, last_id),) = yield Query("retire", {"older_than": older_than, "limit": limit, "after": first})
    # As many jobs as a page takes: there may be more of them, even if there are no more records.
    return Retired(count, first if last_id is None and jobs == limit else last_id, jobs)


# --- look ----------------------------------------------------------------------------------------------------


def now() -> Plan[datetime]:
    ((at,),) = yield Query("now", {})
    assert isinstance(at, datetime)
    return at


def get(ids: Sequence[str]) -> Plan[list[Execution | None]]:
    found = {row[0]: to.execution(row) for row in (yield Query("get", {"ids": plain(ids)}))}
    return [found.get(id_) for id_ in ids]


def finished(ids: Sequence[str]) -> Plan[list[FinishedExecution]]:
    return [to.finished(row) for row in (yield Query("finished", {"ids": plain(ids)}))]


def existing(ids: Sequence[str]) -> Plan[frozenset[str]]:
    return frozenset(id_ for (id_,) in (yield Query("existing", {"ids": plain(ids)})))


def search(where: ExecutionFilter, *, limit: int, before: str | None) -> Plan[list[Execution]]:
    params = {
        **where._asdict(),
        "statuses": None if where.statuses is None else plain(where.statuses),
        "limit": limit,
        "before": before,
    }
    return [to.execution(row) for row in (yield Query("search", params))]


def counts() -> Plan[Mapping[tuple[str, Status], int]]:
    return {(queue, Status(status)): count for queue, status, count in (yield Query("counts", {}))}


# --- executors, doctor, hints --------------------------------------------------------------------------------


def announce(row: ExecutorRow) -> Plan[None]:
    yield Query(
        "announce",
        {**row._asdict(), "queues": texts(row.queues), "task_names": texts(row.task_names)},
    )


def withdraw(executor_id: str) -> Plan[None]:
    yield Query("withdraw", {"id": executor_id})


def executors() -> Plan[list[ExecutorRow]]:
    found = yield Query("executors", {})
    return [ExecutorRow(id_, tuple(queues), tuple(names), *rest) for id_, queues, names, *rest in found]


def defects(*, limit: int, ids: Sequence[str] | None = None) -> Plan[list[Defect]]:
    found = yield Query("defects", {"limit": limit, "ids": None if ids is None else plain(ids)})
    return [Defect(*row) for row in found]


def mend(ids: Sequence[str], *, error: str) -> Plan[list[Defect]]:
    before = yield from defects(limit=len(ids) * 6, ids=ids)
    mendable = [defect for defect in before if defect.is_mendable]
    if mendable:
        yield Query("mend", {"ids": plain(sorted({defect.id for defect in mendable})), "error": error})
    after = set((yield from defects(limit=len(ids) * 6, ids=ids)))
    return [defect for defect in mendable if defect not in after]


def hint(channel: str, payloads: Sequence[str]) -> Plan[None]:
    if payloads:
        yield Query("hint", {"channel": channel, "payloads": texts(payloads)})


Verb = Callable[[], Plan[T]]
