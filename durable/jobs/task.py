"""The Task job kind: events of one key handled one by one, with a state and one schedule slot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from durable.definition import Definition
from durable.durations import Duration
from durable.errors import ConfigurationError
from durable.events import EventName, fact_of_job
from durable.job import JobView, NewEvent
from durable.jobs.context import ErrorContext, EventContext, ExecuteContext, IdleContext
from durable.jobs.handlers import checked_handler
from durable.jobs.keyed import (
    BlockingPlayer,
    Calls,
    JobHome,
    Keyed,
    OnDuplicate,
    attempted,
    refuse_waiting,
    shown_status,
)
from durable.jobs.results import (
    RedriveResult,
    SendResult,
    ShownStatus,
    TaskJobStatus,
    TaskState,
    TerminateResult,
    TriggerResult,
)
from durable.jobs.spec import TaskSpec
from durable.script import Script

__all__ = ["SyncTask", "Task"]

S = TypeVar("S")
E = TypeVar("E")

_PARAMETERS: Final = {
    "on_event": ("ctx", "event"), "execute": ("ctx",), "on_idle": ("ctx",), "on_error": ("ctx", "error"),
}  # fmt: skip

OnEvent = Callable[[EventContext[S, E], E], Any]
Execute = Callable[[ExecuteContext[S]], Any]
OnIdle = Callable[[IdleContext[S]], Any]
OnError = Callable[[ErrorContext[S], Exception], Any]


class _Calls(Calls[TaskSpec], Generic[S, E]):
    def new_event(self, key: str, event: E, event_id: str | None) -> NewEvent:
        """For `ctx.send`. Raises HandlerMissing where nothing would take the event."""
        self.spec.handlers.get("on_event")
        home = self.home()
        new = self.spec.new_event(key, event, event_id, definition=self.definition, new_id=home.new_id)
        return new._replace(notices=home.notices([fact_of_job(EventName.JOB_STARTED, new.key, {})]))

    def send_script(
        self,
        key: str,
        event: E,
        event_id: str | None,
        on_duplicate: OnDuplicate,
        *,
        wait: bool,
        timeout: Duration | None,
    ) -> Script[SendResult]:
        new = self.new_event(key, event, event_id)
        done = yield from self.accepted(new, event_id, on_duplicate, wait=wait, timeout=timeout)
        return SendResult(
            new.key.instance_id, done.is_new_job, done.scheduled_at, done.is_duplicate and event_id is not None
        )

    def trigger_script(self, key: str, *, wait: bool, timeout: Duration | None) -> Script[TriggerResult]:
        self.spec.handlers.get("execute")
        return super().trigger_script(key, wait=wait, timeout=timeout)

    def status_script(self, key: str) -> Script[TaskJobStatus]:
        found: JobView | None = yield from self.view(key)
        if found is None:
            return TaskJobStatus(status=ShownStatus.NOT_FOUND)
        job = found.job
        return TaskJobStatus(
            status=shown_status(job),
            scheduled_at=job.scheduled_at,
            created_at=job.created_at,
            event_count=job.event_count,
            pending_count=job.pending_count,
            execute_count=job.execute_count,
            reason=job.reason,
            **attempted(self, found),
        )

    def state_script(self, key: str) -> Script[TaskState[S]]:
        found = yield from self.view(key)
        if found is None:
            return TaskState(False, None)
        return TaskState(True, self.spec.load_state(found.job), found.job.scheduled_at, found.job.created_at)


class Task(Keyed[_Calls[S, E]], Generic[S, E]):
    """A declared Task job. Its handlers are set by decorators: `@order.on_event`, `@order.execute` and so on."""

    def __init__(self, spec: TaskSpec, definition: Definition, home: Callable[[], JobHome]) -> None:
        super().__init__(_Calls(spec, definition, home))

    # --- handlers ------------------------------------------------------------------------------------------

    def on_event(self, function: OnEvent[S, E]) -> OnEvent[S, E]:
        """Called with each event, in the order of acceptance, one turn each."""
        self._set("on_event", function)
        return function

    def execute(self, function: Execute[S]) -> Execute[S]:
        """Called at the planned moment, and for a trigger."""
        self._set("execute", function)
        return function

    def on_idle(self, function: OnIdle[S]) -> OnIdle[S]:
        """Called after a turn that leaves nothing planned, and no events were waiting when it began."""
        self._set("on_idle", function)
        return function

    def on_error(self, function: OnError[S]) -> OnError[S]:
        """Called with what `on_event` or `execute` raised; the turn then counts as accepted, unless this raises too."""
        self._set("on_error", function)
        return function

    def _set(self, which: str, function: Callable[..., Any]) -> None:
        checked_handler(function, which, *_PARAMETERS[which])
        if getattr(self.__calls__.spec.handlers, which) is not None:
            raise ConfigurationError(f"Task job {self.name!r} has an {which} handler already")
        setattr(self.__calls__.spec.handlers, which, function)

    # --- calls ---------------------------------------------------------------------------------------------

    async def send(
        self,
        key: str,
        event: E,
        *,
        event_id: str | None = None,
        on_duplicate: OnDuplicate = "return",
        wait: bool = False,
        timeout: Duration | None = None,
        connection: Any = None,
    ) -> SendResult:
        """Send an event; durable when it returns, in one round trip, and no handler runs here.

        `event_id` and `on_duplicate` as in Debounce.add. `wait` waits until it has been handled, and raises
        JobExecutionError if that failed for good. Raises JobValidationError, and HandlerMissing for a job without an
        `on_event`.
        """
        refuse_waiting(connection, wait)
        script = self.__calls__.send_script(key, event, event_id, on_duplicate, wait=wait, timeout=timeout)
        return await self._play(script, connection)

    async def trigger(
        self, key: str, *, wait: bool = False, timeout: Duration | None = None, connection: Any = None
    ) -> TriggerResult:
        """Run `execute` now; what is planned stays planned. Raises HandlerMissing for a job without one."""
        refuse_waiting(connection, wait)
        return await self._play(self.__calls__.trigger_script(key, wait=wait, timeout=timeout), connection)

    async def terminate(self, key: str, *, reason: str | None = None, connection: Any = None) -> TerminateResult:
        """End the job: events that wait are thrown away, and what a turn would still commit is refused."""
        return await self._play(self.__calls__.terminate_script(key, reason), connection)

    async def redrive(self, key: str) -> RedriveResult:
        """Handle the events again that failed for good, before those that wait."""
        return await self._play(self.__calls__.redrive_script(key))

    async def status(self, key: str) -> TaskJobStatus:
        return await self._play(self.__calls__.status_script(key))

    async def state(self, key: str) -> TaskState[S]:
        """The state as last committed, also of a job that was ended."""
        return await self._play(self.__calls__.state_script(key))


class SyncTask(Generic[S, E]):
    """As Task, for code without an event loop; made by `client.job(order)`."""

    def __init__(self, job: Task[S, E], player: BlockingPlayer) -> None:
        self._calls = job.__calls__
        self._player = player

    def send(
        self,
        key: str,
        event: E,
        *,
        event_id: str | None = None,
        on_duplicate: OnDuplicate = "return",
        wait: bool = False,
        timeout: Duration | None = None,
        connection: Any = None,
    ) -> SendResult:
        refuse_waiting(connection, wait)
        script = self._calls.send_script(key, event, event_id, on_duplicate, wait=wait, timeout=timeout)
        return self._player.play(script, connection)

    def trigger(
        self, key: str, *, wait: bool = False, timeout: Duration | None = None, connection: Any = None
    ) -> TriggerResult:
        refuse_waiting(connection, wait)
        return self._player.play(self._calls.trigger_script(key, wait=wait, timeout=timeout), connection)

    def terminate(self, key: str, *, reason: str | None = None, connection: Any = None) -> TerminateResult:
        return self._player.play(self._calls.terminate_script(key, reason), connection)

    def redrive(self, key: str) -> RedriveResult:
        return self._player.play(self._calls.redrive_script(key))

    def status(self, key: str) -> TaskJobStatus:
        return self._player.play(self._calls.status_script(key))

    def state(self, key: str) -> TaskState[S]:
        return self._player.play(self._calls.state_script(key))
