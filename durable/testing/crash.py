"""Runs a workflow again and again, and kills its executor at another durable write each time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final, Generic, ParamSpec, TypeVar, cast

from durable.app import Durable
from durable.durations import Duration, seconds
from durable.errors import ConfigurationError, UpdateFailed, UpdateRefused
from durable.execution import Execution, Status
from durable.ids import IdSource
from durable.storage import Storage
from durable.testing.drive import Driver
from durable.testing.kit import queues_of
from durable.testing.mortal import DeathFilter, Life, MortalClock, MortalStorage
from durable.testing.run_end import RunEnd, run_end, without_ids
from durable.testing.virtual import VirtualStorage, virtual_storage
from durable.transitions import release
from durable.workflow.requests import TypedUpdate
from durable.workflow.workflow import Workflow, WorkflowHandle

__all__ = ["CrashReport", "CrashScene", "crash_everywhere"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
_log = logging.getLogger("durable")
_PATIENCE: Final = 10.0
_MOST_MOMENTS: Final = 10_000
"""At which something was due, after which a workflow is taken for one that does not end."""


@dataclass(frozen=True, slots=True)
class CrashReport(Generic[R]):
    """What was the same in all runs."""

    status: Status
    result: R | None
    """None also where the workflow did not complete."""
    error: str | None
    """The type and message of the error it ended with; None: it completed."""
    steps: tuple[str, ...]
    """The keys of the steps that were committed, sorted; of a workflow that continues as new, those of its last run."""
    undone: tuple[str, ...]
    """The keys of the compensations, in the order in which they were committed."""
    crash_count: int
    """Runs in which the executor was killed: one for each durable write of a run without a crash, or a few more. It is
    not the same each time: what ends at one moment is written together or one by one, as the machine has it."""
    answers: tuple[Any, ...] = ()
    """What updates sent by `CrashScene.update` were answered, in their order; of one that failed the error's text."""
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What it had published at its end, by key, as JSON has it."""
    chunks: tuple[Any, ...] = ()
    """What it streamed in the run without a crash, as JSON has it."""


class _WithoutJitter(Random):
    """Delays of retries are whole: what is drawn after a crash is another number than without it."""

    def random(self) -> float:
        return 0.0


class CrashScene(Generic[R]):
    """One run, as the script of a test sees it. What it awaits here goes on over the crash."""

    def __init__(self, app: Durable, virtual: VirtualStorage, life: Life) -> None:
        self._app = app
        self._virtual = virtual
        self._life = life
        self._stack = AsyncExitStack()
        self._driver: Driver | None = None
        self._handle: WorkflowHandle[R] | None = None
        self.answers: list[Any] = []

    @property
    def handle(self) -> WorkflowHandle[R]:
        """Of the workflow; send it signals, cancel it, look at it."""
        assert self._handle is not None
        return self._handle

    def now(self) -> datetime:
        return self._virtual.now()

    async def drain(self) -> None:
        """Run everything that is due now, and what comes of it."""
        await self._drain()

    async def advance(self, duration: Duration) -> None:
        """Move time on, running everything that becomes due, each at its moment."""
        await self._advance_to(self.now() + timedelta(seconds=seconds(duration, "duration")))

    async def update(self, update: TypedUpdate[Callable[P, T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Send an update and give its answer, also where the executor dies half-way: the same request is made again.

        The answer must come before time goes on. Raises as `handle.update` does.
        """
        update_id = f"scene-{len(self.answers)}"
        asked: Any = self.handle.update

        async def ask(_: Driver) -> Any:
            try:
                async with asyncio.timeout(_PATIENCE):
                    return await asked(update, *args, **{"update_id": update_id, **kwargs})
            except TimeoutError:
                raise AssertionError(f"{update!r} has no answer before time goes on") from None

        try:
            answer: T = await self._through(ask)
        except (UpdateRefused, UpdateFailed) as error:
            self.answers.append(without_ids(str(error)))
            raise
        self.answers.append(answer)
        return answer

    # --- for crash_everywhere -----------------------------------------------------------------------------------

    async def begin(self, handle: WorkflowHandle[R]) -> None:
        self._handle = handle
        await self._start()

    async def finish(self) -> Execution:
        """Go from moment to moment until the workflow has ended."""
        for _ in range(_MOST_MOMENTS):
            due = await self._drain()
            record = await self.handle.execution()
            if record.is_finished:
                return record
            if record.reason == "step_mismatch":
                raise AssertionError(f"it went another way than its history: {record.error}")
            if due is None:
                raise AssertionError(f"it does not end: it is {record.status}, and nothing is due; does a signal miss?")
            await self._advance_to(due)
        raise AssertionError(f"it does not end: at {_MOST_MOMENTS} moments something was due")

    async def end(self) -> None:
        await self._stack.aclose()

    async def _drain(self) -> datetime | None:
        due: datetime | None = await self._through(lambda driver: driver.drain())
        return due

    async def _advance_to(self, target: datetime) -> None:
        await self._through(lambda driver: driver.advance_to(target))

    async def _through(self, move: Callable[[Driver], Awaitable[Any]]) -> Any:
        """Do it with the executor that lives; if that one dies, once more with the next."""
        while True:
            assert self._driver is not None
            died = asyncio.ensure_future(self._life.died.wait())
            moving = asyncio.ensure_future(move(self._driver))
            await asyncio.wait([died, moving], return_when=asyncio.FIRST_COMPLETED)
            if self._life.died.is_set():
                moving.cancel()
                await asyncio.gather(moving, return_exceptions=True)
                await self._bury()
                await self._start()
            else:
                died.cancel()
                return await moving

    async def _start(self) -> None:
        executor = await self._stack.enter_async_context(
            self._app.executor(lease="1h", grace=0, queues=queues_of(self._app))
        )
        self._driver = Driver(executor, MortalClock(self._virtual, self._life), patience=_PATIENCE)

    async def _bury(self) -> None:
        """What the dead one held is free at once, as if its leases had ended, but at the same moment of time."""
        held = self._life.claimed
        await self._stack.aclose()
        self._life.revive()
        for claimed in held:
            await self._virtual.storage.settle([release(claimed)])


async def crash_everywhere(
    workflow: Workflow[..., R],
    *args: Any,
    script: Callable[[CrashScene[R]], Awaitable[None]] | None = None,
    storage: Callable[[], AbstractContextManager[VirtualStorage]] = virtual_storage,
    **kwargs: Any,
) -> CrashReport[R]:
    """Run a workflow with these arguments, kill its executor after each of its durable writes in turn, and compare.

    Each run begins on a fresh storage, goes through the script, and then through all that is due until the workflow
    has ended. After a crash another executor goes on, with nothing in memory. Raises AssertionError where a run ends
    otherwise than the one without a crash: with another result, error or answer, other steps or compensations
    committed, other values published at its end, with a step committed twice, with a mismatch of history and code, or
    with unsound records. What it streams is the same, piece by piece; where steps stream, pieces may come again, but
    none is missing and none is new. What a step does outside may happen twice; a workflow whose result depends on it
    is not crash-safe. Delays of retries have no jitter here. The app must not be open.
    """
    app = workflow.app
    if not isinstance(app, Durable):
        raise ConfigurationError(f"workflow {workflow.name!r} belongs to no app yet; include its registry in one")
    expected = await _run(app, workflow, args, kwargs, script, storage, None)
    crash_count = 0
    while True:
        last_write = crash_count + 1
        try:
            found = await _run(app, workflow, args, kwargs, script, storage, last_write)
            if difference := found.difference(expected):
                raise AssertionError(difference)
        except AssertionError as error:
            place = f"workflow {workflow.name!r}, killed after durable write {last_write}"
            raise AssertionError(f"{place}: {error}") from error
        if found.killed_after is None:
            break
        crash_count += 1
    return CrashReport(
        expected.status, cast("R | None", expected.result), expected.error, expected.steps, expected.undone,
        crash_count, expected.answers, expected.values, expected.chunks,
    )  # fmt: skip


async def _run(
    app: Durable,
    workflow: Workflow[..., R],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    script: Callable[[CrashScene[R]], Awaitable[None]] | None,
    storage: Callable[[], AbstractContextManager[VirtualStorage]],
    last_write: int | None,
) -> RunEnd:
    life = Life(last_write)
    with storage() as virtual, _without_deaths(life):
        mortal = cast("Storage", MortalStorage(virtual.storage, life))
        # The same id in each run, because ctx.random and ctx.uuid come from it.
        ids = IdSource(random=Random(0), now_ns=lambda: 0)  # noqa: S311 - nobody need guess
        with app.override(storage=mortal, random=_WithoutJitter(), ids=ids):
            async with app:
                scene: CrashScene[R] = CrashScene(app, virtual, life)
                handle = await workflow.enqueue(*args, **kwargs)
                await scene.begin(handle)
                try:
                    if script is not None:
                        await script(scene)
                    record = await scene.finish()
                    value = await handle.result(timeout=0) if record.status is Status.COMPLETED else None
                    return await run_end(app.codec, record, value, virtual.storage, life, tuple(scene.answers))
                finally:
                    await scene.end()


@contextmanager
def _without_deaths(life: Life) -> Generator[None]:
    deaths = DeathFilter(life)
    _log.addFilter(deaths)
    try:
        yield
    finally:
        _log.removeFilter(deaths)
