"""Timers: tasks that run at a moment, after a while or again and again, in turn for each owner or side by side."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypedDict, TypeVar, Unpack, get_args

from durable.checks import integer, shown
from durable.child import Child
from durable.codec import Codec
from durable.durations import Duration, aware, seconds
from durable.errors import ConfigurationError, ErrorInfo, ExecutionNotFound
from durable.execution import Kind
from durable.ids import parse_id
from durable.jobs.keyed import BlockingPlayer, JobHome, told
from durable.jobs.timer_turn import timer_turn
from durable.options import checked_text
from durable.script import Script, ask, change
from durable.timer import Anchor, NewTimer, StoredTimer, TimerFilter

__all__ = ["SyncTimers", "Timer", "TimerOptions", "Timers"]

T = TypeVar("T")
AnchorName = Literal["completion", "schedule"]

SHORTEST_INTERVAL: Final = 0.001
LONGEST_INTERVAL: Final = 3_650 * 86_400.0
DEFAULT_RETRY_INTERVAL: Final = "1m"
_LARGEST_PAGE: Final = 10_000
_UNUSED: Final = frozenset({"delay", "run_at", "retry", "max_deliveries", "on_parent_close"})
"""Options of a child that no timer could keep to."""


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer as it stands. One that fires once is there until it has succeeded; one that failed for good stays."""

    id: str
    """The same in all retries and recurrences."""
    owner: str
    name: str | None
    task: str
    due_at: datetime
    """When it is started next; while it runs, and if it failed for good, the moment for which it was started."""
    interval: float | None
    """Seconds; None: it fires once."""
    retry_interval: float
    attempt: int
    """Starts since it was set or last succeeded, the one that runs included."""
    last_error: ErrorInfo | None
    created_at: datetime
    sequential: bool
    """It waits for its owner's others of this kind, and holds them up; otherwise for none."""
    failed: bool = False
    """For good, by an error that is not retried: kept to be looked at until it is cancelled or its slot set again."""


class TimerOptions(TypedDict, total=False):
    """What every timer takes."""

    name: str | None
    """A slot of the owner's, such as "alarm": setting it again replaces what is there, running or not."""
    retry_interval: Duration
    """From a failure to the next start, until one succeeds or fails for good; a minute unless told otherwise."""
    sequential: bool
    """True unless told otherwise: it runs one after the other with its owner's. False: beside them."""
    connection: Any
    """A psycopg or SQLAlchemy connection of the caller's: the timer exists if that transaction commits."""


class _Scripts:
    """The calls as scripts, which the two clients play."""

    def __init__(self, new_id: Callable[[], str], codec: Callable[[], Codec]) -> None:
        self._new_id = new_id
        self._codec = codec

    def set(
        self,
        call: Child[Any],
        owner: str,
        options: TimerOptions,
        *,
        delay: float = 0.0,
        run_at: datetime | None = None,
        interval: float | None = None,
        anchor: str = Anchor.COMPLETION,
    ) -> Script[Timer]:
        """Checks all that is given, now."""
        unknown = sorted(options.keys() - TimerOptions.__annotations__.keys())
        if unknown:
            raise ConfigurationError(f"unknown option {unknown[0]!r} of a timer")
        if anchor not in get_args(AnchorName):
            raise ConfigurationError(f"anchor is {anchor!r}; give one of {', '.join(get_args(AnchorName))}")
        sequential: object = options.get("sequential", True)
        if not isinstance(sequential, bool):
            raise ConfigurationError(f"sequential is {shown(sequential)}; give True or False")
        record = _record_of(call)
        name = options.get("name")
        retry_interval = options.get("retry_interval", DEFAULT_RETRY_INTERVAL)
        new = NewTimer(
            id=self._new_id(),
            job_id=self._new_id(),
            owner=checked_text(owner, "owner"),
            name=None if name is None else checked_text(name, "name"),
            task_name=record.task_name,
            input=record.input,
            queue=record.queue,
            priority=record.priority,
            timeout=record.timeout,
            delay=delay,
            run_at=run_at,
            interval=interval,
            anchor=Anchor(anchor),
            retry_interval=_interval(retry_interval, "retry_interval"),
            is_sequential=sequential,
        )
        return self._set(new)

    def _set(self, new: NewTimer) -> Script[Timer]:
        turn = timer_turn(self._new_id(), new.queue, new.priority)
        done = yield from change(lambda storage: storage.set_timer(new, turn=turn))
        # Also for a moment that is to come: whoever sleeps looks again.
        yield from told(done.ready_queue or done.timer.queue)
        return self._shown(done.timer)

    def cancel(self, where: TimerFilter | None) -> Script[int]:
        if where is None:
            return 0
        count: int = yield from change(lambda storage: storage.cancel_timers(where))
        return count

    def one(self, where: TimerFilter | None) -> Script[Timer | None]:
        if where is None:
            return None
        found = yield from ask(lambda storage: storage.list_timers(where, limit=1))
        return self._shown(found[0]) if found else None

    def list(self, owner: str, limit: int, after: Timer | None) -> Script[builtins.list[Timer]]:
        where = TimerFilter(owner=checked_text(owner, "owner"))
        most = integer(limit, "limit", 1, _LARGEST_PAGE)
        last = None if after is None else (after.due_at, after.id)
        found = yield from ask(lambda storage: storage.list_timers(where, limit=most, after=last))
        return [self._shown(timer) for timer in found]

    def _shown(self, timer: StoredTimer) -> Timer:
        return Timer(
            id=timer.id,
            owner=timer.owner,
            name=timer.name,
            task=timer.task_name,
            due_at=timer.due_at,
            interval=timer.interval,
            retry_interval=timer.retry_interval,
            attempt=timer.attempt,
            last_error=None if timer.error is None else self._codec().load_error(timer.error),
            created_at=timer.created_at,
            sequential=timer.is_sequential,
            failed=timer.is_failed,
        )


def _record_of(call: Child[Any]) -> Any:
    if not isinstance(call, Child):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"a timer runs a task.child(…), got {type(call).__name__}")
    if call.new.kind is not Kind.TASK:
        raise ConfigurationError(f"a timer runs a task, and {call.new.task_name!r} is a {call.new.kind}")
    if call.new.is_pooled:
        # The turn of a timer is no execution of the pool: no executor looks for it in the pool's queue.
        raise ConfigurationError(
            f"a timer takes no place in a pool, and {call.new.task_name!r} runs in pool {call.new.queue!r}; give "
            "task.child(…, queue=…), or a task that enqueues it"
        )
    unused = sorted(call.given & _UNUSED)
    if unused:
        raise ConfigurationError(
            f"a timer does not use {unused[0]}; take it out of {call.new.task_name!r}.child(…): the timer has a moment "
            "of its own, and tries again after its retry_interval"
        )
    if call.new.on_complete is not None:
        raise ConfigurationError(f"a timer calls nothing back; take on_complete out of {call.new.task_name!r}.child(…)")
    return call.new


def _interval(value: Duration, field: str) -> float:
    """Seconds, to the microsecond, which is what the storages count in."""
    return round(seconds(value, field, minimum=SHORTEST_INTERVAL, maximum=LONGEST_INTERVAL), 6)


def _by_id(timer_id: object) -> TimerFilter | None:
    """None for text that cannot be the id of a timer, and so is that of none."""
    if not isinstance(timer_id, str):
        raise ConfigurationError(f"timer_id is {shown(timer_id)}; give the id of a timer, a str")
    try:
        return TimerFilter(id=parse_id(timer_id))
    except ExecutionNotFound:
        return None


def _by_name(name: str, owner: str) -> TimerFilter:
    return TimerFilter(owner=checked_text(owner, "owner"), name=checked_text(name, "name"))


def _all_of(owner: str) -> TimerFilter:
    return TimerFilter(owner=checked_text(owner, "owner"))


class Timers:
    """`app.timers`. An owner's timers run one at a time, in order of time; those of different owners run side by side,
    and so does what is set with `sequential=False`.

    A timer whose task fails is tried again each `retry_interval`, unless it raised NonRetryable; it waits like any
    other, so the owner's next one is not kept back. What the task returns is not kept. The task's own retry policy and
    delay are not used.
    """

    def __init__(self, home: Callable[[], JobHome], codec: Callable[[], Codec]) -> None:
        self._home = home
        self._scripts = _Scripts(lambda: home().new_id(), codec)

    async def at(self, when: datetime, call: Child[Any], *, owner: str, **options: Unpack[TimerOptions]) -> Timer:
        """Run `task.child(…)` at a moment, which has a time zone; the past means now."""
        return await self._play(self._scripts.set(call, owner, options, run_at=aware(when, "when")), options)

    async def after(self, delay: Duration, call: Child[Any], *, owner: str, **options: Unpack[TimerOptions]) -> Timer:
        """Run `task.child(…)` after a while."""
        return await self._play(self._scripts.set(call, owner, options, delay=seconds(delay, "delay")), options)

    async def every(
        self,
        interval: Duration,
        call: Child[Any],
        *,
        owner: str,
        anchor: AnchorName = "completion",
        **options: Unpack[TimerOptions],
    ) -> Timer:
        """Run `task.child(…)` again and again, first after one interval of 1 ms to 3,650 days.

        "completion" counts each interval from the end of the run before; "schedule" keeps to a grid that begins now,
        and leaves out what has passed.
        """
        length = _interval(interval, "interval")
        script = self._scripts.set(call, owner, options, delay=length, interval=length, anchor=anchor)
        return await self._play(script, options)

    async def cancel(self, timer_id: str, *, connection: Any = None) -> bool:
        """Delete a timer; False: there is none of that id, or not any more.

        One that runs is not stopped, but it is neither retried nor due again.
        """
        return await self._play(self._scripts.cancel(_by_id(timer_id)), {"connection": connection}) > 0

    async def cancel_named(self, name: str, *, owner: str, connection: Any = None) -> bool:
        """As cancel, for what is in a slot of an owner's."""
        return await self._play(self._scripts.cancel(_by_name(name, owner)), {"connection": connection}) > 0

    async def cancel_all(self, *, owner: str, connection: Any = None) -> int:
        """As cancel, for all timers of an owner; gives how many there were."""
        return await self._play(self._scripts.cancel(_all_of(owner)), {"connection": connection})

    async def get(self, timer_id: str) -> Timer | None:
        """None: there is none of that id, or not any more."""
        return await self._play(self._scripts.one(_by_id(timer_id)), {})

    async def named(self, name: str, *, owner: str) -> Timer | None:
        """What is in a slot of an owner's; None once it has fired."""
        return await self._play(self._scripts.one(_by_name(name, owner)), {})

    async def list(self, *, owner: str, limit: int = 100, after: Timer | None = None) -> builtins.list[Timer]:
        """A page of an owner's timers in order of time; `after` is the last of the page before."""
        return await self._play(self._scripts.list(owner, limit, after), {})

    async def _play(self, script: Script[T], options: TimerOptions) -> T:
        return await self._home().play(script, options.get("connection"))


class SyncTimers:
    """`client.timers`: as Timers, for code without an event loop."""

    def __init__(self, player: BlockingPlayer, new_id: Callable[[], str], codec: Callable[[], Codec]) -> None:
        self._player = player
        self._scripts = _Scripts(new_id, codec)

    def at(self, when: datetime, call: Child[Any], *, owner: str, **options: Unpack[TimerOptions]) -> Timer:
        return self._play(self._scripts.set(call, owner, options, run_at=aware(when, "when")), options)

    def after(self, delay: Duration, call: Child[Any], *, owner: str, **options: Unpack[TimerOptions]) -> Timer:
        return self._play(self._scripts.set(call, owner, options, delay=seconds(delay, "delay")), options)

    def every(
        self,
        interval: Duration,
        call: Child[Any],
        *,
        owner: str,
        anchor: AnchorName = "completion",
        **options: Unpack[TimerOptions],
    ) -> Timer:
        length = _interval(interval, "interval")
        script = self._scripts.set(call, owner, options, delay=length, interval=length, anchor=anchor)
        return self._play(script, options)

    def cancel(self, timer_id: str, *, connection: Any = None) -> bool:
        return self._play(self._scripts.cancel(_by_id(timer_id)), {"connection": connection}) > 0

    def cancel_named(self, name: str, *, owner: str, connection: Any = None) -> bool:
        return self._play(self._scripts.cancel(_by_name(name, owner)), {"connection": connection}) > 0

    def cancel_all(self, *, owner: str, connection: Any = None) -> int:
        return self._play(self._scripts.cancel(_all_of(owner)), {"connection": connection})

    def get(self, timer_id: str) -> Timer | None:
        return self._play(self._scripts.one(_by_id(timer_id)), {})

    def named(self, name: str, *, owner: str) -> Timer | None:
        return self._play(self._scripts.one(_by_name(name, owner)), {})

    def list(self, *, owner: str, limit: int = 100, after: Timer | None = None) -> builtins.list[Timer]:
        return self._play(self._scripts.list(owner, limit, after), {})

    def _play(self, script: Script[T], options: TimerOptions) -> T:
        return self._player.play(script, options.get("connection"))
