"""Pools in memory: their rows, and the claim within their limits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice, takewhile

from durable.execution import PRIORITIES, Execution
from durable.memory.claim import due_records, is_known, take
from durable.memory.store import Starts, Transaction, Turn
from durable.pool_rows import PoolConfig, PooledClaim

__all__ = ["claim_pooled", "configure_pool", "ensure_pools", "stored_pools", "token_moment"]

_SLOTS = 64
"""Starts of one such part of a period are kept as one, at the last of their moments."""


def ensure_pools(tx: Transaction, wanted: Sequence[PoolConfig]) -> list[PoolConfig]:
    return [tx.pools.get(pool.name) or _store(tx, pool) for pool in wanted]


def _store(tx: Transaction, pool: PoolConfig) -> PoolConfig:
    tx.pools.put(pool.name, pool)
    tx.pool_reports.put(pool.name, tx.now)
    return pool


def configure_pool(tx: Transaction, pool: PoolConfig, *, fields: Collection[str]) -> PoolConfig:
    before = tx.pools.get(pool.name) or _store(tx, pool)
    after = before._replace(**{name: getattr(pool, name) for name in fields})
    tx.pools.put(pool.name, after)
    return after


def stored_pools(tx: Transaction, names: Sequence[str] | None) -> list[PoolConfig]:
    return sorted(pool for pool in tx.pools.values() if names is None or pool.name in names)


def token_moment(tx: Transaction, name: str) -> datetime | None:
    """When the rate of a pool lets something start that waits in it; None: it does so now, or nothing waits."""
    pool = tx.pools.get(name)
    if pool is None or pool.is_paused or pool.rate_tokens is None or pool.rate_period is None:
        return None
    at = _rate_moment(tx, pool, pool.rate_tokens, pool.rate_period)
    return at if at > tx.now and any(True for _ in _ready(tx, pool)) else None


def claim_pooled(
    tx: Transaction, *, executor_id: str, pools: Sequence[str], task_names: Sequence[str], limit: int, lease: float
) -> PooledClaim:
    picked: list[Execution] = []
    waits: list[float] = []
    for name in pools:
        pool = tx.pools.get(name)
        if pool is not None:
            found, wait = _from_pool(tx, pool, task_names, limit - len(picked))
            picked += found
            waits += [] if wait is None else [wait]
    claimed = take(tx, picked, executor_id=executor_id, lease=lease)
    return PooledClaim(claimed, min(waits, default=None))


def _from_pool(
    tx: Transaction, pool: PoolConfig, task_names: Sequence[str], room: int
) -> tuple[list[Execution], float | None]:
    """What is taken from one pool, and the wait that its rate asks for."""
    running = list(tx.executions.find("running", pool.name))
    if pool.max_parallelism is not None:
        room = min(room, pool.max_parallelism - len(running))
    if pool.is_paused or room <= 0:
        return [], None
    found = _in_order(tx, pool, running, task_names, room)
    if pool.rate_tokens is None or pool.rate_period is None:
        return _served(tx, pool, found[:room]), None
    used = sum(starts.number for starts in _counted(tx, pool, pool.rate_period))
    taken = _served(tx, pool, found[: min(room, max(pool.rate_tokens - used, 0))])
    _note_starts(tx, pool, pool.rate_period, len(taken))
    is_held = len(taken) < min(room, len(found))
    at = _rate_moment(tx, pool, pool.rate_tokens, pool.rate_period)
    return taken, (at - tx.now).total_seconds() if is_held else None


def _ready(tx: Transaction, pool: PoolConfig, *, has_key: bool | None = None) -> Iterator[Execution]:
    """What waits in a pool, with or without a serial key, those of a higher priority first."""
    return (
        record
        for is_keyed in ((False, True) if has_key is None else (has_key,))
        for priority in reversed(PRIORITIES)
        for record in tx.executions.find("ready", (pool.name, True, is_keyed, priority))
    )


def _in_order(
    tx: Transaction, pool: PoolConfig, running: Sequence[Execution], task_names: Sequence[str], limit: int
) -> list[Execution]:
    """What may start, `limit` of them at least if there are so many.

    Those without a key come by priority and due time, the heads of the keys at their turns.
    """
    plain = (
        record
        for priority in reversed(PRIORITIES)
        for record in due_records(tx, (pool.name, True, False, priority), task_names)
    )
    ranked = [((-each.priority, each.due_at, 0, "", 0, each.id), each) for each in islice(plain, limit)]
    by_key: defaultdict[str, list[Execution]] = defaultdict(list)
    # The order of a key is that of all that is due; only keys without a limit have none.
    names = task_names if pool.max_per_key is None else None
    for priority in PRIORITIES:
        for record in due_records(tx, (pool.name, True, True, priority), names):
            by_key[record.serial_key or ""].append(record)
    busy: Counter[str | None] = _busy(tx, pool, running) if by_key else Counter()
    for key, records in by_key.items():
        records.sort(key=lambda each: (pool.keep_order and each.started_at is None, each.due_at, each.id))
        turn = _turn(tx, pool, key, records[0].due_at)
        # Without a limit for each key, all of them may start.
        free = None if pool.max_per_key is None else max(pool.max_per_key - busy[key], 0)
        heads = takewhile(lambda each: is_known(each, task_names), records[:free])
        # The first of every key before the second of any: keys without a limit take turns too.
        ranked += [((0, turn.at, turn.served + place, key, place, ""), each) for place, each in enumerate(heads)]
    return [record for _, record in sorted(ranked)]


def _turn(tx: Transaction, pool: PoolConfig, key: str, due_at: datetime) -> Turn:
    last = tx.turns.get((pool.name, key))
    return Turn(due_at, 0) if last is None or last.at < due_at else last


def _busy(tx: Transaction, pool: PoolConfig, running: Sequence[Execution]) -> Counter[str | None]:
    """How many of each key run, or hold up those behind them until they are tried again."""
    busy = Counter(each.serial_key for each in running)
    if pool.keep_order:
        busy.update(
            each.serial_key
            for each in _ready(tx, pool, has_key=True)
            if each.started_at is not None and each.due_at > tx.now
        )
    return busy


def _served(tx: Transaction, pool: PoolConfig, taken: list[Execution]) -> list[Execution]:
    for record in taken:
        if record.serial_key is not None:
            last = tx.turns.get((pool.name, record.serial_key))
            tx.turns.put((pool.name, record.serial_key), Turn(tx.now, last.served + 1 if last else 1))
    return taken


def _counted(tx: Transaction, pool: PoolConfig, period: float) -> list[Starts]:
    """What has started in the period that ends now, the later ones last."""
    since = tx.now - timedelta(seconds=period)
    return [starts for starts in tx.starts.get(pool.name) or () if starts.at > since]


def _rate_moment(tx: Transaction, pool: PoolConfig, tokens: int, period: float) -> datetime:
    """When the rate lets one start; now, if it does."""
    at, later = tx.now, 0
    for starts in reversed(_counted(tx, pool, period)):
        later += starts.number
        if later >= tokens:
            return starts.at + timedelta(seconds=period)
    return at


def _note_starts(tx: Transaction, pool: PoolConfig, period: float, count: int) -> None:
    if not count:
        return
    slots: dict[float, Starts] = {}
    for starts in (*_counted(tx, pool, period), Starts(tx.now, count)):
        slot = starts.at.timestamp() * _SLOTS / period // 1
        before = slots.get(slot)
        slots[slot] = starts if before is None else Starts(max(before.at, starts.at), before.number + starts.number)
    tx.starts.put(pool.name, tuple(sorted(slots.values())))
