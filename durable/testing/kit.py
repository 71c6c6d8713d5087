"""The kit: a user's app on a storage of the test's own, by a clock that the test moves, with an executor running."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final, Unpack

from durable.app import Durable
from durable.checks import shown
from durable.durations import Duration, aware, seconds
from durable.errors import ConfigurationError
from durable.events import RECORDER, EventName, LifecycleEvent, expanded_names
from durable.execution import DEFAULT_QUEUE
from durable.executor import Executor
from durable.jobs.keyed import Keyed
from durable.settings import ExecutorOptions
from durable.storage import ExecutionFilter, Lane
from durable.task import Task
from durable.testing.drive import Driver
from durable.testing.enqueued import EnqueuedCall, Expectation, calls_of, complaint
from durable.testing.virtual import VirtualMemory, VirtualStorage

__all__ = ["Kit", "KitClock", "app_under_test", "queues_of"]

_PATIENCE: Final = 10.0
_SETTINGS: Final[ExecutorOptions] = {"lease": "1h", "grace": 0}
# lease: virtual time never ends one under a handler, so real time should not either, not even at a breakpoint.
# grace: a test that ends while a handler runs has no use for it.
_MOST_LISTED: Final = 1_000_000
_RECORDER_LEASE: Final = 1.0
"""Nobody else asks for what is kept for the kit."""


class KitClock:
    """The time of a test: it stands still but for `advance` and `advance_to`, which run what becomes due."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def now(self) -> datetime:
        return self._driver.now()

    async def advance(self, duration: Duration) -> datetime:
        """Move on by a duration, running everything that becomes due, each at its moment; gives the new time.

        Goes from due moment to due moment, never past one, and at each waits until the executor is idle. Takes real
        time only for what handlers do. Raises StillRunning when that is longer than the kit's patience: the clock then
        stands at the moment at which it got stuck.
        """
        return await self.advance_to(self.now() + timedelta(seconds=seconds(duration, "duration")))

    async def advance_to(self, at: datetime) -> datetime:
        """As advance, to a moment; raises ConfigurationError for one that has passed."""
        target = aware(at, "at")
        if target < self.now():
            raise ConfigurationError(f"at is {target.isoformat()}, but it is {self.now().isoformat()} already")
        await self._driver.advance_to(target)
        return self.now()


class Kit:
    """What a test has in its hands; made by `app_under_test`."""

    def __init__(self, app: Durable, executor: Executor, driver: Driver, lane: Lane) -> None:
        self.app = app
        self.executor = executor
        self.clock = KitClock(driver)
        self._driver = driver
        self._lane = lane

    async def drain(self) -> None:
        """Run everything that is due now, and what comes of it, without moving time. Raises StillRunning."""
        await self._driver.drain()

    def enqueued(self, task: Task[..., Any] | None = None, *args: Any, **expected: Any) -> list[EnqueuedCall]:
        """All executions of this storage, finished or not, children among them, in the order in which they were made.

        With a task only its own, and of those the ones that have the arguments and options given, as in `enqueue`;
        what is not given may be anything. Raises ConfigurationError for a name that the task does not know.
        """
        calls = self._calls()
        if task is None:
            if args or expected:
                raise ConfigurationError("arguments and options belong to a task; give it first")
            return calls
        expectation = Expectation(task, args, expected)
        return [call for call in calls if expectation.misses(call) == []]

    def assert_enqueued(self, task: Task[..., Any], *args: Any, **expected: Any) -> EnqueuedCall:
        """The first of `enqueued(task, …)`; where there is none, an AssertionError that lists what is there.

        What has run counts as well: look at `status` of what this gives.
        """
        __tracebackhide__ = True
        expectation = Expectation(task, args, expected)
        calls = self._calls()
        for call in calls:
            if expectation.misses(call) == []:
                return call
        raise AssertionError(complaint(expectation, calls))

    def events(self, *names: str, task: Task[..., Any] | Keyed[Any] | str | None = None) -> list[LifecycleEvent]:
        """What has happened to executions and jobs by now, in the order in which it was stored, with payloads.

        `names` are names of events, or `"job.*"` for all that begin so; none means every one. `task` is a task or job,
        or the name of one. An event is there once what it tells of is committed: `drain` before looking. Raises
        ConfigurationError for a name that no event has, and for what is no task.
        """
        wanted = expanded_names(names) if names else frozenset(EventName)
        of = task if task is None or isinstance(task, str) else getattr(task, "name", None)
        if task is not None and not isinstance(of, str):
            raise ConfigurationError(f"task is {shown(task)}; give a task, a job, or the name of one")
        taken = self._lane.run(
            self.app.storage.take_notices(RECORDER, holder=RECORDER, limit=_MOST_LISTED, lease=_RECORDER_LEASE)
        )
        found = [self.app.live.emitter.event(notice) for notice in taken.notices if notice.name in wanted]
        return [event for event in found if of is None or event.task == of]

    def _calls(self) -> list[EnqueuedCall]:
        records = self._lane.run(self.app.storage.search(ExecutionFilter(), limit=_MOST_LISTED))
        return calls_of(self.app, records[::-1])


@asynccontextmanager
async def app_under_test(
    app: Durable,
    *,
    storage: VirtualStorage | None = None,
    at: datetime | None = None,
    patience: Duration = _PATIENCE,
    seed: int = 0,
    **settings: Unpack[ExecutorOptions],
) -> AsyncGenerator[Kit]:
    """Run a user's app on a storage of the test's own while the block lasts; then the app is as it was before.

    `storage` is a VirtualStorage, None a new one in memory. `at` is where virtual time starts: None means where the
    storage's clock stands, which for a new one is the same moment in every run. `patience` bounds the real time for
    what is due at one moment. `seed` makes the jitter of retries the same in every run. `settings` are those of the
    executor, which serves the queues of all of the app's definitions unless told otherwise. The app must not be open.
    """
    virtual = storage or VirtualMemory()
    limit = seconds(patience, "patience", minimum=0.01)
    if at is not None:
        virtual.move_to(aware(at, "at"))
    options: ExecutorOptions = {**_SETTINGS, "queues": queues_of(app), **settings}
    with app.override(storage=virtual.storage, random=Random(seed)):  # noqa: S311 - jitter
        async with app:
            with app.live.emitter.recording():
                async with app.executor(**options) as executor:
                    lane = virtual.storage.lane()
                    try:
                        yield Kit(app, executor, Driver(executor, virtual, patience=limit), lane)
                    finally:
                        lane.close()


def queues_of(app: Durable) -> list[str]:
    """Those that enqueue uses by itself, in the order of the definitions; never none."""
    return list(dict.fromkeys(app[name].options.queue for name in app)) or [DEFAULT_QUEUE]
