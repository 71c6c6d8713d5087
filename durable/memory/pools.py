"""Pools in memory: their rows, and the claim within their limits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice

from durable.execution import PRIORITIES, Execution
from durable.memory.claim import due_records, take
from durable.memory.store import Bucket, Transaction, Turn
from durable.pool_rows import PoolConfig, PooledClaim

__all__ = ["claim_pooled", "configure_pool", "ensure_pools", "stored_pools", "token_moment"]

_TOLERANCE = 1e-6
"""For sums of parts that should come to a whole token."""


def ensure_pools(tx: Transaction, wanted: Sequence[PoolConfig]) -> list[PoolConfig]:
    return [tx.pools.get(pool.name) or _store(tx, pool) for pool in wanted]


def _store(tx: Transaction, pool: PoolConfig) -> PoolConfig:
    tx.pools.put(pool.name, pool)
    tx.buckets.put(pool.name, Bucket(pool.rate_tokens or 0, tx.now))
    tx.pool_reports.put(pool.name, tx.now)
    return pool


def configure_pool(tx: Transaction, pool: PoolConfig, *, fields: Collection[str]) -> PoolConfig:
    before = tx.pools.get(pool.name) or _store(tx, pool)
    after = before._replace(**{name: getattr(pool, name) for name in fields})
    if "rate_tokens" in fields:
        capacity = float(after.rate_tokens or 0)
        left = capacity if before.rate_tokens is None else min(capacity, _tokens(tx, before))
        tx.buckets.put(pool.name, Bucket(left, tx.now))
    tx.pools.put(pool.name, after)
    return after


def stored_pools(tx: Transaction, names: Sequence[str] | None) -> list[PoolConfig]:
    return sorted(pool for pool in tx.pools.values() if names is None or pool.name in names)


def token_moment(tx: Transaction, name: str) -> datetime | None:
    """When the rate of a pool lets something start that waits in it; None: it does so now, or nothing waits."""
    pool = tx.pools.get(name)
    if pool is None or pool.is_paused or pool.rate_tokens is None or pool.rate_period is None:
        return None
    missing = 1 - _tokens(tx, pool)
    if missing <= _TOLERANCE or not any(True for _ in _ready(tx, pool)):
        return None
    return tx.now + timedelta(seconds=missing * pool.rate_period / pool.rate_tokens)


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
    tokens = _tokens(tx, pool)
    taken = _served(tx, pool, found[: min(room, int(tokens + _TOLERANCE))])
    left = tokens - len(taken)
    tx.buckets.put(pool.name, Bucket(left, tx.now))
    is_held = len(taken) < min(room, len(found))
    return taken, max(1 - left, 0.0) * pool.rate_period / pool.rate_tokens if is_held else None


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
    for priority in PRIORITIES:
        for record in due_records(tx, (pool.name, True, True, priority), task_names):
            by_key[record.serial_key or ""].append(record)
    busy: Counter[str | None] = _busy(tx, pool, running) if by_key else Counter()
    for key, records in by_key.items():
        records.sort(key=lambda each: (pool.keep_order and each.started_at is None, each.due_at, each.id))
        turn = _turn(tx, pool, key, records[0].due_at)
        # Without a limit for each key, all of them may start.
        free = None if pool.max_per_key is None else max(pool.max_per_key - busy[key], 0)
        heads = records[:free]
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


def _tokens(tx: Transaction, pool: PoolConfig) -> float:
    """What the rate allows now: the bucket fills at its rate up to its size."""
    assert pool.rate_tokens is not None
    assert pool.rate_period is not None
    bucket = tx.buckets.get(pool.name) or Bucket(pool.rate_tokens, tx.now)
    passed = max((tx.now - bucket.at).total_seconds(), 0.0)
    return min(pool.rate_tokens, bucket.tokens + passed * pool.rate_tokens / pool.rate_period)
