"""The Continuous job kind: one state for each key, and a run on a schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from durable.definition import Definition
from durable.durations import Duration
from durable.events import EventName, fact_of_job
from durable.job import Job, JobView, NewJob
from durable.jobs.context import ContinuousContext
from durable.jobs.errors import InvalidJobState
from durable.jobs.keyed import (
    BlockingPlayer,
    Calls,
    JobHome,
    Keyed,
    attempted,
    limit_of,
    noted,
    refuse_waiting,
    shown_status,
    told,
)
from durable.jobs.results import (
    ContinuousStatus,
    PauseResult,
    RedriveResult,
    ShownStatus,
    StartResult,
    TerminateResult,
    TriggerResult,
)
from durable.jobs.schedule import Due
from durable.jobs.spec import ContinuousSpec
from durable.script import Script, Tell, ask, change

__all__ = ["Continuous", "SyncContinuous"]

S = TypeVar("S")


class _Calls(Calls[ContinuousSpec], Generic[S]):
    def start_script(self, key: str, state: S, *, wait: bool, timeout: Duration | None) -> Script[StartResult]:
        spec, job_key = self.spec, self.spec.job_key(key)
        limit_of(timeout)
        text = spec.dump_state(state, job_key.instance_id)
        due = Due(delay=0.0)
        if not spec.start_immediately:
            now = yield from ask(lambda storage: storage.now())
            due = spec.schedule.first(now)
        turn = self.new_turn()
        notices = self.home().notices([fact_of_job(EventName.JOB_STARTED, job_key, {}, state=text)])
        new = NewJob(self.home().new_id(), job_key, text, spec.state_version, due.delay or 0.0, due.at, turn, notices)
        done = yield from change(lambda storage: storage.start_job(new))
        # A repeated call after a lost answer meets its own job.
        created = done.is_new or done.job.turn_id == turn.id
        if created:
            yield from told(turn.queue)
        if created and notices:
            yield Tell(noted(notices))
        if created and wait and spec.start_immediately:
            yield from self.wait_for(job_key, turn.id, timeout)
            found = yield from self.view(key)
            is_there = found is not None and found.job.epoch == done.job.epoch
            # Ended by its first run, it may be deleted by now, or have begun anew.
            shown = shown_status(found.job) if found is not None and is_there else ShownStatus.TERMINATED
            return StartResult(job_key.instance_id, True, shown)
        return StartResult(job_key.instance_id, created, shown_status(done.job))

    def pause_script(self, key: str) -> Script[PauseResult]:
        job_key = self.spec.job_key(key)
        before = yield from self.view(key)
        job = yield from change(lambda storage: storage.pause_job(job_key))
        return self._paused(key, before, job, "pause", ShownStatus.PAUSED)

    def resume_script(self, key: str) -> Script[PauseResult]:
        job_key = self.spec.job_key(key)
        turn = self.new_turn()
        before = yield from self.view(key)
        job = yield from change(lambda storage: storage.resume_job(job_key, turn=turn))
        yield from told(turn.queue)
        return self._paused(key, before, job, "resume", ShownStatus.RUNNING)

    def _paused(
        self, key: str, before: JobView | None, job: Job | None, operation: str, wanted: ShownStatus
    ) -> PauseResult:
        instance_id = self.spec.job_key(key).instance_id
        if job is None:
            return PauseResult(instance_id, False, ShownStatus.NOT_FOUND)
        status = shown_status(job)
        if status is not wanted:
            raise InvalidJobState(instance_id, operation, expected="running or paused", actual=status)
        is_changed = before is None or shown_status(before.job) is not status
        return PauseResult(instance_id, is_changed, status)

    def status_script(self, key: str) -> Script[ContinuousStatus]:
        found: JobView | None = yield from self.view(key)
        if found is None:
            return ContinuousStatus(status=ShownStatus.NOT_FOUND)
        job = found.job
        return ContinuousStatus(
            status=shown_status(job), run_count=job.run_count, reason=job.reason, **attempted(self, found)
        )

    def state_script(self, key: str) -> Script[S | None]:
        found = yield from self.view(key)
        state: S | None = None if found is None else self.spec.load_state(found.job)
        return state


class Continuous(Keyed[_Calls[S]], Generic[S]):
    """A declared Continuous: `await refresher.start("customer-7", Tokens(…))`."""

    def __init__(self, spec: ContinuousSpec, definition: Definition, home: Callable[[], JobHome]) -> None:
        super().__init__(_Calls(spec, definition, home))

    def __call__(self, ctx: ContinuousContext[S]) -> Any:
        """Run the function here and now, on whatever stands in for a context: nothing is stored; for unit tests."""
        return self.__calls__.spec.handler(ctx)

    async def start(
        self, key: str, state: S, *, wait: bool = False, timeout: Duration | None = None, connection: Any = None
    ) -> StartResult:
        """Begin to run for a key, unless it lives already: then nothing changes and `created` is False.

        `wait` waits for the first run, where that is immediate; raises JobExecutionError if it failed for good. Raises
        JobValidationError for a state that does not fit; then nothing is stored.
        """
        refuse_waiting(connection, wait)
        return await self._play(self.__calls__.start_script(key, state, wait=wait, timeout=timeout), connection)

    async def trigger(
        self, key: str, *, wait: bool = False, timeout: Duration | None = None, connection: Any = None
    ) -> TriggerResult:
        """Run now, from the first attempt; while a run goes on, once more after it, however many triggers come."""
        refuse_waiting(connection, wait)
        return await self._play(self.__calls__.trigger_script(key, wait=wait, timeout=timeout), connection)

    async def terminate(self, key: str, *, reason: str | None = None, connection: Any = None) -> TerminateResult:
        """End the job: no further run, and what a run that goes on would still commit is refused."""
        return await self._play(self.__calls__.terminate_script(key, reason), connection)

    async def pause(self, key: str, *, connection: Any = None) -> PauseResult:
        """Begin no run and no attempt until `resume`, except for a trigger; the attempt that runs ends.

        A job that has ended is `not_found`. Raises InvalidJobState for one that has failed.
        """
        return await self._play(self.__calls__.pause_script(key), connection)

    async def resume(self, key: str, *, connection: Any = None) -> PauseResult:
        """Go on: at the planned moment, or now if that has passed."""
        return await self._play(self.__calls__.resume_script(key), connection)

    async def redrive(self, key: str) -> RedriveResult:
        """Run a failed job again, now."""
        return await self._play(self.__calls__.redrive_script(key))

    async def status(self, key: str) -> ContinuousStatus:
        return await self._play(self.__calls__.status_script(key))

    async def state(self, key: str) -> S | None:
        """The state as last committed, also of a job that was ended; None where there is none."""
        return await self._play(self.__calls__.state_script(key))


class SyncContinuous(Generic[S]):
    """As Continuous, for code without an event loop; made by `client.job(refresher)`."""

    def __init__(self, job: Continuous[S], player: BlockingPlayer) -> None:
        self._calls = job.__calls__
        self._player = player

    def start(
        self, key: str, state: S, *, wait: bool = False, timeout: Duration | None = None, connection: Any = None
    ) -> StartResult:
        refuse_waiting(connection, wait)
        return self._player.play(self._calls.start_script(key, state, wait=wait, timeout=timeout), connection)

    def trigger(
        self, key: str, *, wait: bool = False, timeout: Duration | None = None, connection: Any = None
    ) -> TriggerResult:
        refuse_waiting(connection, wait)
        return self._player.play(self._calls.trigger_script(key, wait=wait, timeout=timeout), connection)

    def terminate(self, key: str, *, reason: str | None = None, connection: Any = None) -> TerminateResult:
        return self._player.play(self._calls.terminate_script(key, reason), connection)

    def pause(self, key: str, *, connection: Any = None) -> PauseResult:
        return self._player.play(self._calls.pause_script(key), connection)

    def resume(self, key: str, *, connection: Any = None) -> PauseResult:
        return self._player.play(self._calls.resume_script(key), connection)

    def redrive(self, key: str) -> RedriveResult:
        return self._player.play(self._calls.redrive_script(key))

    def status(self, key: str) -> ContinuousStatus:
        return self._player.play(self._calls.status_script(key))

    def state(self, key: str) -> S | None:
        return self._player.play(self._calls.state_script(key))
