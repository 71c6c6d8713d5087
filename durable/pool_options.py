"""What a pool is declared with and may be changed to, checked where the user gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypedDict

from durable.checks import integer
from durable.durations import Duration, seconds
from durable.errors import ConfigurationError
from durable.pool_rows import LONGEST_WINDOW, PoolConfig
from durable.retry import Retry
from durable.settings import checked_name

__all__ = ["DeclaredPool", "PoolChanges", "Rate", "changed_pool", "declared_pool", "rate_of", "report_window"]

MOST_PARALLEL: Final = 100_000
MOST_TOKENS: Final = 1_000_000_000
SHORTEST_PERIOD: Final = 0.001
SHORTEST_WINDOW: Final = 60.0


@dataclass(frozen=True, slots=True, init=False)
class Rate:
    """Starts in a period, over all executors: never more than `tokens` in any time as long as `per`.

    Every start counts, a retry's too, and one that is given back unrun. All of `tokens` may start at once, and the next
    when `per` has passed since; `Rate(1, per="100ms")` spaces them evenly. To bound the row of the pool, starts that
    are less than a 64th of `per` apart may count as if all were at the last of them.
    """

    tokens: int
    per: float
    """Seconds."""

    def __init__(self, tokens: int, *, per: Duration) -> None:
        """Raise ConfigurationError for less than one token or no time."""
        object.__setattr__(self, "tokens", integer(tokens, "rate.tokens", 1, MOST_TOKENS))
        object.__setattr__(self, "per", seconds(per, "rate.per", minimum=SHORTEST_PERIOD))


class PoolChanges(TypedDict, total=False):
    """What `configure` may change; what is not given stays."""

    max_parallelism: int | None
    """Executions that run at once over all executors; 0 starts none, None means no limit."""
    max_per_key: int | None
    """Executions of one serial key that run at once; None means no limit."""
    keep_order: bool
    """What waits for its next attempt holds its place in its key; False lets the others of the key pass it."""
    rate: Rate | None
    """Starts in a period; None means no limit."""


class DeclaredPool:
    """A pool as a definition or an enqueue names it. Made by `app.pool(…)`."""

    def __init__(self, declared: PoolConfig, retry: Retry | None) -> None:
        self.declared = declared
        """What its row begins with; what it is configured to at run time is in the database alone."""
        self.retry = retry
        """The policy of tasks that have none of their own."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @property
    def name(self) -> str:
        return self.declared.name


def declared_pool(
    name: str, *, max_parallelism: int | None, max_per_key: int | None, keep_order: bool, rate: Rate | None
) -> PoolConfig:
    """Raise ConfigurationError, naming the field and its limits, for a value that cannot be meant."""
    empty = PoolConfig(checked_name(name, "the pool's name"), None, None, True, None, None, is_paused=False)
    given: PoolChanges = {
        "max_parallelism": max_parallelism, "max_per_key": max_per_key, "keep_order": keep_order, "rate": rate,
    }  # fmt: skip
    return changed_pool(empty, given)[0]


def changed_pool(pool: PoolConfig, changes: Mapping[str, object]) -> tuple[PoolConfig, frozenset[str]]:
    """The pool with the changes, and the fields they are; raises ConfigurationError as `declared_pool` does."""
    unknown = sorted(changes.keys() - PoolChanges.__annotations__.keys())
    if unknown:
        raise ConfigurationError(f"unknown option {unknown[0]!r} of pool {pool.name!r}")
    fields: dict[str, Any] = {}
    for name, least in (("max_parallelism", 0), ("max_per_key", 1)):
        if name in changes:
            value = changes[name]
            fields[name] = None if value is None else integer(value, name, least, MOST_PARALLEL)
    if "keep_order" in changes:
        if not isinstance(changes["keep_order"], bool):
            raise ConfigurationError("keep_order must be True or False")
        fields["keep_order"] = changes["keep_order"]
    if "rate" in changes:
        rate = changes["rate"]
        if rate is not None and not isinstance(rate, Rate):
            raise ConfigurationError("rate must be a Rate(…) or None")
        fields["rate_tokens"] = None if rate is None else rate.tokens
        fields["rate_period"] = None if rate is None else rate.per
    return pool._replace(**fields), frozenset(fields)


def rate_of(pool: PoolConfig) -> Rate | None:
    if pool.rate_tokens is None or pool.rate_period is None:
        return None
    return Rate(pool.rate_tokens, per=pool.rate_period)


def report_window(over: Duration) -> float:
    """Seconds; raises ConfigurationError for what is not from a minute, which is as fine as counts go, to a day."""
    return seconds(over, "over", minimum=SHORTEST_WINDOW, maximum=LONGEST_WINDOW)
