"""Options of definitions and of single executions, checked where the user gives them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypedDict

from durable.checks import integer
from durable.completion import OnComplete
from durable.durations import Duration, aware, seconds
from durable.errors import ConfigurationError
from durable.execution import DEFAULT_QUEUE, PRIORITIES
from durable.execution_log import LogLevel, checked_log_level
from durable.pool_options import DeclaredPool
from durable.retry import NO_RETRY, Retry, checked_retry
from durable.settings import checked_name

__all__ = [
    "CallOptions",
    "ChildOptions",
    "DefinitionOptions",
    "EnqueueOptions",
    "Overrides",
    "SleepingOptions",
    "TaskOptions",
    "checked_overrides",
    "checked_pool",
    "checked_reason",
    "checked_task_options",
    "checked_text",
]

KEY_LIMIT = 512
_LONGEST_REASON = 10_000
SHORTEST_TIMEOUT = 0.001


class DefinitionOptions(TypedDict, total=False):
    """What a definition may set for all its executions; see TaskOptions for the defaults."""

    retry: Retry | None
    """None: the policy of the pool it runs in, or else a single attempt."""
    timeout: Duration | None
    delay: Duration
    queue: str
    priority: int
    version: int
    max_deliveries: int
    pool: DeclaredPool
    log_level: LogLevel | None


class SleepingOptions(TypedDict, total=False):
    """The same for a sleeping task, which has no attempts to limit or to repeat."""

    delay: Duration
    queue: str
    priority: int
    version: int


class CallOptions(TypedDict, total=False):
    """What may be set for one execution, whoever starts it."""

    delay: Duration
    """Wait this long before it may run, instead of the definition's delay."""
    run_at: datetime
    """Do not run it before this time (aware); in the past means now. Not together with delay."""
    priority: int
    """-4 to 4; higher is claimed first."""
    queue: str
    """Instead of the definition's queue or pool."""
    pool: DeclaredPool
    """Run it in this pool instead of the definition's queue or pool. Not together with queue."""
    serial_key: str
    """In a pool: executions of one key run in order and within max_per_key, and keys take turns."""
    retry: Retry
    """Instead of the definition's policy; without functions, because it is stored."""
    timeout: Duration | None
    max_deliveries: int
    on_complete: OnComplete
    """The task to call once this execution has ended."""


class ChildOptions(CallOptions, total=False):
    """What a parent may set for one child."""

    on_parent_close: Literal["cancel", "abandon"]
    """What becomes of it when its parent has ended before it: it is cancelled (the default), or it goes on."""


class EnqueueOptions(CallOptions, total=False):
    """What a caller may set for one execution."""

    idempotency_key: str
    """For one task, the same key with the same input is the same execution; with another input, IdempotencyConflict."""
    connection: Any
    """A psycopg or SQLAlchemy connection of the caller's: the execution exists if that transaction commits."""


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What a definition says for all its executions."""

    retry: Retry = NO_RETRY
    timeout: float | None = None
    delay: float = 0.0
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    version: int = 1
    max_deliveries: int = 5
    is_pooled: bool = False
    """The queue is the name of a pool."""
    log_level: int | None = None
    """The least that is logged about its executions; None goes by the logger `durable`."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """The checked options of one execution; None leaves the definition's value."""

    options: TaskOptions
    run_at: datetime | None = None
    retry_json: str | None = None
    idempotency_key: str | None = None
    serial_key: str | None = None
    on_complete: str | None = None
    """As a record keeps it."""
    outlives_parent: bool = False
    connection: Any = field(default=None, repr=False)


def checked_task_options(
    *,
    retry: Retry | None,
    timeout: Duration | None,
    delay: Duration,
    queue: str,
    priority: int,
    version: int,
    max_deliveries: int,
    is_pooled: bool = False,
    log_level: object = None,
) -> TaskOptions:
    """Raise ConfigurationError, naming the field and its limits, for a value that cannot be meant."""
    return TaskOptions(
        retry=checked_retry(retry) or NO_RETRY,
        timeout=None if timeout is None else seconds(timeout, "timeout", minimum=SHORTEST_TIMEOUT),
        delay=seconds(delay, "delay"),
        queue=checked_name(queue, "queue"),
        priority=integer(priority, "priority", PRIORITIES[0], PRIORITIES[-1]),
        version=integer(version, "version", 1, 2**31 - 1),
        max_deliveries=integer(max_deliveries, "max_deliveries", 1, 1000),
        is_pooled=is_pooled,
        log_level=checked_log_level(log_level),
    )


def checked_overrides(
    defined: TaskOptions, given: EnqueueOptions | ChildOptions | dict[str, Any], *, is_child: bool = False
) -> Overrides:
    """The options of one execution over those of its definition; raises ConfigurationError for a bad one."""
    if not given:
        return Overrides(defined)
    allowed = ChildOptions if is_child else EnqueueOptions
    unknown = set(given) - allowed.__annotations__.keys()
    if unknown:
        raise ConfigurationError(f"unknown option {sorted(unknown)[0]!r}")
    options: dict[str, Any] = dict(given)
    if "delay" in options and "run_at" in options:
        raise ConfigurationError("give delay or run_at, not both")
    retry: Retry | None = options.get("retry")
    timeout = options.get("timeout", defined.timeout)
    pool = checked_pool(options)
    if pool is not None and retry is None and defined.retry is NO_RETRY:
        retry = pool.retry
    is_pooled = pool is not None or (defined.is_pooled and "queue" not in options)
    merged = checked_task_options(
        retry=defined.retry if retry is None else retry,
        timeout=timeout,
        delay=options.get("delay", defined.delay),
        queue=options.get("queue", defined.queue) if pool is None else pool.name,
        priority=options.get("priority", defined.priority),
        version=defined.version,
        max_deliveries=options.get("max_deliveries", defined.max_deliveries),
        is_pooled=is_pooled,
    )
    key = options.get("idempotency_key")
    return Overrides(
        merged,
        run_at=aware(options["run_at"], "run_at") if "run_at" in options else None,
        retry_json=None if retry is None else retry.to_json(),
        idempotency_key=None if key is None else checked_text(key, "idempotency_key"),
        serial_key=_serial_key(options.get("serial_key"), is_pooled=is_pooled),
        on_complete=_callback(options.get("on_complete")),
        outlives_parent=_outlives_parent(options.get("on_parent_close", "cancel")),
        connection=options.get("connection"),
    )


def checked_pool(options: dict[str, Any]) -> DeclaredPool | None:
    """The pool among options; raises ConfigurationError for what is none, and beside a queue."""
    pool = options.get("pool")
    if pool is not None and not isinstance(pool, DeclaredPool):
        raise ConfigurationError(f"pool is a {type(pool).__name__}; give what app.pool(…) gave")
    if pool is not None and "queue" in options:
        raise ConfigurationError("give pool or queue, not both: a pool is a queue of its own")
    return pool


def _serial_key(key: object, *, is_pooled: bool) -> str | None:
    if key is None:
        return None
    if not is_pooled:
        raise ConfigurationError("serial_key needs a pool: declare the task with pool.task, or give pool= as well")
    return checked_text(key, "serial_key")


def _outlives_parent(given: object) -> bool:
    if given not in ("cancel", "abandon"):
        raise ConfigurationError(f"on_parent_close must be 'cancel' or 'abandon', not {given!r}")
    return given == "abandon"


def _callback(given: object) -> str | None:
    if given is None:
        return None
    if not isinstance(given, OnComplete):
        raise ConfigurationError(f"on_complete is a {type(given).__name__}; give OnComplete(task, …)")
    return given.to_text()


def checked_text(value: object, field_name: str, *, most: int = KEY_LIMIT) -> str:
    """A key or unique id: 1 to so many characters without NUL and lone surrogates."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{field_name} is a {type(value).__name__}; give a str")
    if not 1 <= len(value) <= most:
        raise ConfigurationError(f"{field_name} has {len(value)} characters; it must have 1 to {most}")
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise ConfigurationError(f"{field_name} contains NUL or half of a surrogate pair, which Postgres cannot store")
    return value


def checked_reason(value: object) -> str:
    """Why somebody ends something: up to 10,000 characters without NUL and lone surrogates; may be empty."""
    return "" if value == "" else checked_text(value, "reason", most=_LONGEST_REASON)
