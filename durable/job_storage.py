"""The part of the seam that keyed jobs and timers use; see durable.storage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from durable.job import (
    Appended,
    Cleared,
    EventEnd,
    Job,
    JobFilter,
    JobKey,
    JobView,
    NewEvent,
    NewJob,
    NewTurn,
    Started,
    StoredEvent,
    TakenTurn,
    Triggered,
    TurnToTake,
)
from durable.notice import NewNotice
from durable.operation import Operation
from durable.timer import NewTimer, StoredTimer, TimerFilter, TimerSet

__all__ = ["JobStorage"]


class JobStorage(Protocol):
    """In the order in which a job meets the verbs; then those of timers."""

    def start_job(self, new: NewJob) -> Operation[Started]:
        """Store a job with its first turn, unless the key lives already: then what is there, unchanged.

        The key of an ended job is used again, in place: same id, the epoch that its end has raised, all else new.
        """
        ...

    def append_events(self, events: Sequence[NewEvent]) -> Operation[list[Appended]]:
        """Append events to the inboxes of their jobs, in the order given; jobs that do not live are made, stateless.

        A job without a live turn gets one, and a turn that waits for a later moment without having been tried is made
        due earlier, as the policy says. One that runs, or waits between attempts, is left alone. A paused or failed job
        keeps events and gets no turn. An id that an ended job remembers, because its own turn ended it, is a duplicate.
        Waits for whoever holds the row of a job, which nobody does while user code runs,
        a caller's own transaction apart.
        """
        ...

    def append_free_events(self, events: Sequence[NewEvent]) -> Operation[list[Appended | None]]:
        """As append_events, and waits for nobody: None, and nothing appended, where somebody holds the row of the job.

        The same for a job of which there is no row, not even an ended one: to make it could mean to wait.
        """
        ...

    def trigger_job(self, key: JobKey, *, turn: NewTurn, only_pending: bool) -> Operation[Triggered]:
        """Make a turn due now for the cause `trigger`; while one that was taken runs, one more after it.

        A turn between attempts begins again with the first, without an error, and still runs for the moment it was
        planned for; but one that has taken events stays the turn that it is, with its cause, its events and its
        attempts, and one more follows it. It is due now if none of its attempts has failed. A failed job is active
        again, a paused one stays paused.
        `only_pending`: nothing happens, and nothing is queued, for a job without events that wait or are between
        attempts. A turn between attempts that has taken events is due now, and no other follows it.
        """
        ...

    def end_job(self, key: JobKey, *, reason: str | None, notices: Sequence[NewNotice] = ()) -> Operation[Job | None]:
        """Make a job terminated, throw its events and timers away and cancel its live turn, running or not.

        Raises its epoch. Gives the job as it was before; None where none lives. Its state stays to be read, and the ids
        of events that were consumed are remembered as long as they would have been; the others are not even known by
        their ids. The reason of the turn is `job_ended`. `notices` are stored if a job was ended.
        """
        ...

    def clear_job(self, key: JobKey) -> Operation[Cleared | None]:
        """Throw away the events that no turn has ever taken, and end the job as `cleared` unless it has others.

        Those that the live turn has taken, and those that wait to be taken again, after a redrive or a pause, stay.
        A job with dead events does not end either: it has nothing to do, and they can still be redriven. The ids of
        events that were consumed are remembered as long as they would have been. None where no job lives. The reason
        of a turn that is cancelled is `job_cleared`.
        """
        ...

    def pause_job(self, key: JobKey) -> Operation[Job | None]:
        """Active → paused: a turn that does not run is cancelled, with the reason `paused`, now or when it is taken.

        What it was for is kept: its planned moment, its trigger, and its events, which are pending again; and the error
        of the attempt it was to repeat. The turn of a trigger that comes later is none of these. Of a paused job the
        turn is cancelled that was running when it was paused, and waits for another attempt now. Gives the job after
        it, unchanged if it was neither; None where none lives.
        """
        ...

    def resume_job(self, key: JobKey, *, turn: NewTurn) -> Operation[Job | None]:
        """Paused → active: the next turn is due at the planned moment, or now if that has passed or events wait.

        Now, too, for a trigger, and for a Continuous of which no moment is known. A job with nothing to do gets no
        turn, one whose turn still runs no other. Gives the job after it, unchanged if it was not paused; None where
        none lives.
        """
        ...

    def redrive_job(self, key: JobKey, *, turn: NewTurn) -> Operation[Triggered]:
        """Make dead events pending again, before those that wait, and a turn due now; a failed job is active again.

        A job that its own turn has ended with dead events begins a new incarnation with them. The turn runs for the
        events of a Task, for the cause `trigger` otherwise. One that runs, or waits between attempts, is left alone
        with its events, and another follows it. Events that one turn took are taken by one turn again, with no others,
        and under their old `batch_id`. Nothing happens to a job that has no dead events and is not failed:
        `job` is then None.
        """
        ...

    def take_turns(self, turns: Sequence[TurnToTake]) -> Operation[list[TakenTurn]]:
        """What claimed turns run on: their job, why they run, and their events, marked as theirs at the first call.

        The cause is `trigger` before a planned moment that came no later than the first event was due, before events
        that are due, before nothing. A trigger of a job with a window takes its events too. A turn takes `max_events`
        at most, or those of one batch that was taken before and waits again; with a window a trigger then stands until
        no such batch waits. Nothing stores nothing: the next call decides anew. A turn of a job of timers starts the
        first of them that is due, which each call finds anew, and counts its attempt. One that a pause holds is
        ended as by pause_job, and its job is given without a turn. Missing from the answer: turns whose fence is gone,
        and those whose job's row somebody holds.
        """
        ...

    def get_jobs(self, keys: Sequence[JobKey]) -> Operation[list[JobView | None]]:
        """In the order of keys; None where there is none. Ended jobs are there until their key is used again."""
        ...

    def list_jobs(self, where: JobFilter, *, limit: int, after: JobKey | None = None) -> Operation[list[JobView]]:
        """By kind, name and key; `after` is the last of the page before. Without statuses: those that are not ended.

        Reads about as many rows as it gives, also for `has_dead`.
        """
        ...

    def count_jobs(self, where: JobFilter) -> Operation[int]: ...

    def pending_events(self, key: JobKey) -> Operation[list[StoredEvent]]:
        """The events of a job that no turn has consumed, dead ones apart, in their order.

        Those that the live turn has taken have a `turn_id`, those that wait have none.
        """
        ...

    def event_end(self, key: JobKey, event_id: str) -> Operation[EventEnd | None]:
        """What became of the event of that id; None: it is not known, or not any more."""
        ...

    def forget_events(self, *, limit: int) -> Operation[int]:
        """Delete consumed events whose ids need not be remembered any longer; gives how many."""
        ...

    # --- timers ----------------------------------------------------------------------------------------------

    def set_timer(self, new: NewTimer, *, turn: NewTurn) -> Operation[TimerSet]:
        """Store a timer, in place of its owner's one of its name, in its job, which is made if it does not live.

        That is the job of its owner, or if it is not sequential one of its own. The job's turn is then due when the
        first of its timers is, in the queue and with the priority of that, or inserted if there is none; one that has
        been taken is left alone, and another follows it. A timer of the same id that is still there is given as it is;
        of one that is gone nothing is stored again while its id is remembered, for REMEMBERED at least, unless its job
        was ended. Waits for whoever holds the row of the job, as append_events does.
        """
        ...

    def cancel_timers(self, where: TimerFilter) -> Operation[int]:
        """Delete a timer, or those of an owner, and plan the turns of their jobs anew; gives how many there were.

        Of one that runs nothing more is written: no retry, no next time. A job without timers and turn is ended.
        """
        ...

    def list_timers(
        self, where: TimerFilter, *, limit: int, after: tuple[datetime, str] | None = None
    ) -> Operation[list[StoredTimer]]:
        """By time and id; `after` is the due time and the id of the last of the page before."""
        ...
