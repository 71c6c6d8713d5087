"""The rows of pools, and what the verbs of pools exchange."""

from __future__ import annotations

from typing import NamedTuple

from durable.execution import Claimed

__all__ = ["PoolConfig", "PooledClaim"]


class PoolConfig(NamedTuple):
    """The limits of one pool, over all executors. Columns of the table of pools, in order."""

    name: str
    max_parallelism: int | None
    """Executions that run at once; 0 starts none, None means no limit."""
    max_per_key: int | None
    """Executions of one serial key that run at once; None means no limit."""
    keep_order: bool
    """What waits for its next attempt keeps its place in its key: it counts as running there."""
    rate_tokens: int | None
    """Starts in each rate_period, and as many at once after a quiet time; None means no limit."""
    rate_period: float | None
    """Seconds."""
    is_paused: bool
    """Starts nothing; the limits stand for when it goes on."""


class PooledClaim(NamedTuple):
    """What a claim from pools gave."""

    claimed: list[Claimed]
    wait: float | None
    """Seconds after which a claim may find more. None: what is held back waits for running work to end."""
