"""The Debounce job kind: events of one key are gathered and handed to one flush."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Generic, TypeVar

from durable.definition import Definition
from durable.durations import Duration
from durable.events import EventName, fact_of_job
from durable.execution import Status
from durable.job import Appended, Job, JobKey, JobView, NewEvent, StoredEvent, TurnPolicy, events_due_at, opens_batch
from durable.jobs.context import DebounceContext
from durable.jobs.keyed import (
    BlockingPlayer,
    Calls,
    JobHome,
    Keyed,
    OnDuplicate,
    attempted,
    limit_of,
    refuse_waiting,
    shown_status,
)
from durable.jobs.results import AddResult, ClearResult, DebounceStatus, FlushResult, RedriveResult, ShownStatus
from durable.jobs.spec import DebounceSpec
from durable.script import Script, Tell, ask, change
from durable.storage import Hint

__all__ = ["Debounce", "SyncDebounce"]

S = TypeVar("S")
E = TypeVar("E")


class _Calls(Calls[DebounceSpec], Generic[S, E]):
    def new_event(self, key: str, event: E, event_id: str | None) -> NewEvent:
        """For `ctx.send`."""
        home = self.home()
        new = self.spec.new_event(key, event, event_id, definition=self.definition, new_id=home.new_id)
        data = {"flush_after_s": self.spec.policy.window, "max_events": self.spec.policy.max_events}
        return new._replace(notices=home.notices([fact_of_job(EventName.DEBOUNCE_STARTED, new.key, data)]))

    def add_script(
        self,
        key: str,
        event: E,
        event_id: str | None,
        on_duplicate: OnDuplicate,
        *,
        wait: bool,
        timeout: Duration | None,
    ) -> Script[AddResult]:
        new = self.new_event(key, event, event_id)
        done = yield from self.accepted(new, event_id, on_duplicate, wait=wait, timeout=timeout)
        return AddResult(
            new.key.instance_id,
            done.pending_count,
            _flush_at(done, done.due_at, self.spec.policy),
            created=opens_batch(done, self.spec.policy),
            duplicate=done.is_duplicate and event_id is not None,
        )

    def flush_script(self, key: str, *, wait: bool, timeout: Duration | None) -> Script[FlushResult]:
        job_key = self.spec.job_key(key)
        limit_of(timeout)
        done = yield from self.triggered(job_key, only_pending=True)
        if done.job is None or not (done.job.is_triggered or done.is_queued or done.taken_count):
            return FlushResult(job_key.instance_id, False, False, 0, "empty")
        most = self.spec.policy.max_events or done.job.pending_count
        asked = done.taken_count or min(done.job.pending_count, most)
        if not wait:
            return FlushResult(job_key.instance_id, False, True, asked, "manual")
        count = yield from self.wait_for_trigger(job_key, done, timeout)
        flushed = asked if count is None else count
        # Nothing, where another flush was before it, or a clear.
        return FlushResult(job_key.instance_id, flushed > 0, True, flushed, "manual" if flushed else "empty")

    def clear_script(self, key: str) -> Script[ClearResult]:
        job_key = self.spec.job_key(key)
        done = yield from change(lambda storage: storage.clear_job(job_key))
        if done is None:
            return ClearResult(job_key.instance_id, False, 0)
        yield Tell((Hint("cancelled", ""), Hint("finished", "")))
        return ClearResult(job_key.instance_id, True, done.discarded_count, done.goes_on)

    def status_script(self, key: str) -> Script[DebounceStatus]:
        found: JobView | None = yield from self.view(key)
        if found is None:
            return DebounceStatus(status=ShownStatus.NOT_FOUND)
        job = found.job
        is_waiting = found.turn_status is Status.READY and not found.turn_attempts and job.pending_count > 0
        shown = attempted(self, found)
        if is_waiting and not job.is_triggered:
            shown["next_run_at"] = _flush_at(job, found.turn_due_at, self.spec.policy)
        return DebounceStatus(
            status=shown_status(job),
            event_count=job.pending_count,
            in_flight_count=found.taken_count,
            started_at=job.pending_first_at,
            will_flush_at=shown["next_run_at"] if is_waiting else None,
            reason=job.reason,
            **shown,
        )

    def events_script(self, key: str) -> Script[list[E]]:
        job_key: JobKey = self.spec.job_key(key)
        found: list[StoredEvent] = yield from ask(lambda storage: storage.pending_events(job_key))
        waiting = tuple(event for event in found if event.turn_id is None)
        return list(self.spec.load_events(waiting, job_key.instance_id))

    def state_script(self, key: str) -> Script[S | None]:
        events = yield from self.events_script(key)
        if not events:
            return None
        state: S = self.spec.fold(tuple(events), self.spec.job_key(key).instance_id)
        return state


def _flush_at(pending: Job | Appended, turn_due_at: datetime | None, policy: TurnPolicy) -> datetime | None:
    """When the open batch flushes. A sliding window moves beyond the turn's moment, which then finds nothing to do."""
    if turn_due_at is None or policy.max_wait is None:
        return turn_due_at
    events_at = events_due_at(pending, policy)
    return turn_due_at if events_at is None else max(turn_due_at, events_at)


class Debounce(Keyed[_Calls[S, E]], Generic[S, E]):
    """A declared Debounce: `await batcher.add("contact-7", Changed(…))`."""

    def __init__(self, spec: DebounceSpec, definition: Definition, home: Callable[[], JobHome]) -> None:
        super().__init__(_Calls(spec, definition, home))

    def __call__(self, ctx: DebounceContext[S, E]) -> Any:
        """Run the function here and now, on whatever stands in for a context: nothing is stored; for unit tests."""
        return self.__calls__.spec.handler(ctx)

    async def add(
        self,
        key: str,
        event: E,
        *,
        event_id: str | None = None,
        on_duplicate: OnDuplicate = "return",
        wait: bool = False,
        timeout: Duration | None = None,
        connection: Any = None,
    ) -> AddResult:
        """Add an event to the open batch; durable when it returns, in one round trip, and no handler runs here.

        With an `event_id`, a second event of the same id within the declared dedupe window changes nothing: `duplicate`
        is True, or with on_duplicate="raise" DuplicateEventError is raised. `wait` waits for the flush that takes it
        and raises JobExecutionError if that failed for good. Raises JobValidationError.
        """
        refuse_waiting(connection, wait)
        script = self.__calls__.add_script(key, event, event_id, on_duplicate, wait=wait, timeout=timeout)
        return await self._play(script, connection)

    async def flush(self, key: str, *, wait: bool = True, timeout: Duration | None = None) -> FlushResult:
        """Flush the open batch now, behind a flush that runs; nothing happens without events.

        A batch that waits for its retry is the one that is flushed: its next attempt begins now. Raises
        JobExecutionError if the flush that it waits for failed for good.
        """
        return await self._play(self.__calls__.flush_script(key, wait=wait, timeout=timeout))

    async def clear(self, key: str, *, connection: Any = None) -> ClearResult:
        """Throw the open batch away and nothing else: dead letters stay, and what a redrive is to flush again.

        A flush that has taken its events goes on.
        """
        return await self._play(self.__calls__.clear_script(key), connection)

    async def redrive(self, key: str) -> RedriveResult:
        """Flush the batches again that failed for good: one after the other, each as it was and under its own batch id.

        What is open follows by its own window.
        """
        return await self._play(self.__calls__.redrive_script(key))

    async def status(self, key: str) -> DebounceStatus:
        return await self._play(self.__calls__.status_script(key))

    async def events(self, key: str) -> list[E]:
        """The events of the open batch, in their order: those that `status` counts, and no flush has taken."""
        return await self._play(self.__calls__.events_script(key))

    async def state(self, key: str) -> S | None:
        """What the reducer makes of those events, here and now; None without any."""
        return await self._play(self.__calls__.state_script(key))


class SyncDebounce(Generic[S, E]):
    """As Debounce, for code without an event loop; made by `client.job(batcher)`."""

    def __init__(self, job: Debounce[S, E], player: BlockingPlayer) -> None:
        self._calls = job.__calls__
        self._player = player

    def add(
        self,
        key: str,
        event: E,
        *,
        event_id: str | None = None,
        on_duplicate: OnDuplicate = "return",
        wait: bool = False,
        timeout: Duration | None = None,
        connection: Any = None,
    ) -> AddResult:
        refuse_waiting(connection, wait)
        script = self._calls.add_script(key, event, event_id, on_duplicate, wait=wait, timeout=timeout)
        return self._player.play(script, connection)

    def flush(self, key: str, *, wait: bool = True, timeout: Duration | None = None) -> FlushResult:
        return self._player.play(self._calls.flush_script(key, wait=wait, timeout=timeout))

    def clear(self, key: str, *, connection: Any = None) -> ClearResult:
        return self._player.play(self._calls.clear_script(key), connection)

    def redrive(self, key: str) -> RedriveResult:
        return self._player.play(self._calls.redrive_script(key))

    def status(self, key: str) -> DebounceStatus:
        return self._player.play(self._calls.status_script(key))

    def events(self, key: str) -> list[E]:
        return self._player.play(self._calls.events_script(key))

    def state(self, key: str) -> S | None:
        return self._player.play(self._calls.state_script(key))
