"""The state machine: every transition of an execution is decided here, and nowhere else.

Two rules for this file. It does no I/O and reads no clock and no random source: what it needs is handed in.
And the table comes first: TRANSITIONS names every pair of status and event that means something; `apply` refuses
all others with TransitionRefused and changes nothing.

A turn is claimed, runs, and is settled:

    ready ──claim──▶ running ──complete──▶ completed     (count_start: a suspect is about to run)
      ▲                 │ ├────fail──────▶ failed, timed_out (run phase), finalize_failed (later phases)
      ├──fail, retried──┤ ├────spawn─────▶ waiting_for_children, waiting_for_finalize
      ├──repeat─────────┤ └────suspend───▶ waiting
      ├──sleep──────────┤
      ├──release────────┤
      └──expire_lease───┘ (or failed, reason poisoned, when the deliveries are used up)

The last child's finish makes a waiting parent ready again, one phase further; what a suspended workflow waits for
resumes it, before its moment too. `cancel` ends anything unfinished.
What finishes with unfinished children goes through the close statuses: ready ──▶ closing ──▶ closed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from durable.errors import TransitionRefused
from durable.execution import (
    FINISHED,
    UNSTARTED,
    Claimed,
    CloseStatus,
    Kind,
    NewExecution,
    Phase,
    Settlement,
    Status,
)
from durable.workflow_rows import Suspension

__all__ = [
    "CLOSE_TRANSITIONS",
    "TRANSITIONS",
    "CloseEvent",
    "Event",
    "State",
    "apply",
    "apply_close",
    "blocked",
    "cancelled",
    "complete",
    "counted",
    "fail",
    "first_state",
    "is_suspect",
    "release",
    "repeat",
    "spawn",
    "suspend",
]

_BLOCKED_PAUSE: Final = 30.0
"""Seconds until what could not go on is tried again, perhaps by newer code."""


class Event(StrEnum):
    """What may happen to an execution."""

    CLAIM = "claim"
    COUNT_START = "count_start"
    """A suspect is about to be started, so its delivery counts from now on."""
    COMPLETE = "complete"
    FAIL = "fail"
    TIME_OUT = "time_out"
    RETRY = "retry"
    """An attempt failed and the policy gives it another."""
    REPEAT = "repeat"
    """A loop takes another turn."""
    SPAWN = "spawn"
    SPAWN_FINALIZE = "spawn_finalize"
    SUSPEND = "suspend"
    """A workflow waits for a message or for children."""
    SLEEP = "sleep"
    """A workflow waits until a moment, and for what may come before it."""
    RESUME = "resume"
    """What a suspended workflow waits for has come."""
    RELEASE = "release"
    EXPIRE_LEASE = "expire_lease"
    CHILDREN_FINISHED = "children_finished"
    WAKE_COMPLETED = "wake_completed"
    WAKE_FAILED = "wake_failed"
    EXPIRE_WAIT = "expire_wait"
    CANCEL = "cancel"
    ACCEPT_CANCEL = "accept_cancel"
    """A workflow that was asked to end has done so."""
    REDRIVE = "redrive"
    """An operator gives a failed execution another life."""


class CloseEvent(StrEnum):
    FINISH = "finish"
    """The execution finished; what has unfinished children is to be closed, the rest is closed at once."""
    CLAIM = "claim"
    EXPIRE = "expire"
    CLOSE = "close"
    REOPEN = "reopen"


S = Status
_LOST_OFTEN: Final = 2
"""Lost deliveries after which an execution is a suspect. After one, all that ran in a process that died would be."""
_TURN_ENDS: Final = {
    Event.COMPLETE: {S.COMPLETED},
    Event.FAIL: {S.FAILED, S.FINALIZE_FAILED},
    Event.TIME_OUT: {S.TIMED_OUT, S.FINALIZE_FAILED},
    Event.RETRY: {S.READY},
    Event.REPEAT: {S.READY},
    Event.SPAWN: {S.WAITING_FOR_CHILDREN, S.READY},
    Event.SPAWN_FINALIZE: {S.WAITING_FOR_FINALIZE},
    Event.SUSPEND: {S.WAITING},
    Event.SLEEP: {S.READY},
    Event.RELEASE: {S.READY},
    Event.EXPIRE_LEASE: {S.READY, S.FAILED, S.FINALIZE_FAILED},
    Event.CANCEL: {S.CANCELLED},
    Event.ACCEPT_CANCEL: {S.CANCELLED},
}

TRANSITIONS: Final[Mapping[Status, Mapping[Event, set[Status]]]] = {
    S.READY: {Event.CLAIM: {S.RUNNING}, Event.RESUME: {S.READY}, Event.CANCEL: {S.CANCELLED}},
    S.RUNNING: {**_TURN_ENDS, Event.COUNT_START: {S.RUNNING}},
    S.WAITING: {
        Event.RESUME: {S.READY},
        Event.WAKE_COMPLETED: {S.COMPLETED},
        Event.WAKE_FAILED: {S.FAILED},
        Event.EXPIRE_WAIT: {S.TIMED_OUT},
        Event.CANCEL: {S.CANCELLED},
    },
    S.WAITING_FOR_CHILDREN: {Event.CHILDREN_FINISHED: {S.WAITING_FOR_CHILDREN, S.READY}, Event.CANCEL: {S.CANCELLED}},
    S.WAITING_FOR_FINALIZE: {Event.CHILDREN_FINISHED: {S.WAITING_FOR_FINALIZE, S.READY}, Event.CANCEL: {S.CANCELLED}},
    S.COMPLETED: {},
    S.FAILED: {Event.REDRIVE: {S.READY}},
    S.TIMED_OUT: {Event.REDRIVE: {S.READY}},
    S.FINALIZE_FAILED: {Event.REDRIVE: {S.READY}},
    S.CANCELLED: {Event.REDRIVE: {S.READY}},
}

C = CloseStatus
CLOSE_TRANSITIONS: Final[Mapping[CloseStatus, Mapping[CloseEvent, set[CloseStatus]]]] = {
    C.IDLE: {CloseEvent.FINISH: {C.READY, C.CLOSED}},
    C.READY: {CloseEvent.CLAIM: {C.CLOSING}},
    C.CLOSING: {CloseEvent.EXPIRE: {C.READY}, CloseEvent.CLOSE: {C.CLOSED}},
    C.CLOSED: {CloseEvent.REOPEN: {C.IDLE}},
}


@dataclass(frozen=True, slots=True)
class State:
    """The fields of a record that the machine reads and writes."""

    kind: Kind = Kind.TASK
    status: Status = S.READY
    phase: Phase = Phase.RUN
    fence: int = 0
    settled_fence: int = 0
    attempts: int = 0
    deliveries: int = 0
    max_deliveries: int = 5
    iteration: int = 0
    children_count: int = 0
    active_children_count: int = 0
    close_status: CloseStatus = C.IDLE
    reason: str | None = None
    needs_cancel: bool = False


def first_state(kind: Kind, max_deliveries: int) -> State:
    """The state in which enqueue stores a record: a sleeping task waits from the start, all else is ready."""
    return State(kind=kind, status=S.WAITING if kind is Kind.SLEEPING else S.READY, max_deliveries=max_deliveries)


def apply(state: State, event: Event, *, children: int = 0) -> State:
    """The state after `event`, or TransitionRefused.

    `children` is the number inserted by SPAWN and SPAWN_FINALIZE, and the number of finished children that
    CHILDREN_FINISHED counts: a parent whose count stays above zero only counts.
    """
    if event not in TRANSITIONS[state.status]:
        raise TransitionRefused(state.status, event)
    return _APPLY[event](state, children)


def is_suspect(deliveries: int, max_deliveries: int) -> bool:
    """True for what may be killing its process, or must not be lost once more: its next delivery counts at its start.

    That is what was lost twice, and what has one delivery left. All else is counted by the claim, which is cheaper.
    """
    return deliveries >= _LOST_OFTEN or deliveries + 1 >= max_deliveries


def _claim(state: State, _: int) -> State:
    is_late = is_suspect(state.deliveries, state.max_deliveries)
    return replace(
        state,
        status=S.RUNNING,
        fence=state.fence + 1,
        attempts=state.attempts + 1,
        deliveries=state.deliveries + (not is_late),
        reason=UNSTARTED if is_late else None,
    )


def _count_start(state: State, _: int) -> State:
    """Once for each claim, however often it is asked for."""
    return replace(state, deliveries=state.deliveries + (state.reason == UNSTARTED), reason=None)


def _settled(state: State, status: Status, **changes: object) -> State:
    after = replace(
        state,
        status=status,
        fence=state.fence + 1,
        settled_fence=state.fence,
        deliveries=0,
        needs_cancel=False,
        **changes,  # type: ignore[arg-type]  # replace() checks the names, the callers give the types
    )
    return _finished(after) if status in FINISHED else after


def _finished(state: State) -> State:
    return replace(state, close_status=close_status_after_finish(state.status, state.active_children_count))


def close_status_after_finish(status: Status, active_children: int) -> CloseStatus:
    """A finished record without unfinished children is closed by the write that finishes it."""
    if status not in FINISHED:
        return C.IDLE
    return C.READY if active_children else C.CLOSED


def failed_status(phase: Phase, *, timed_out: bool = False) -> Status:
    """How an execution that failed for good is called in each phase."""
    if phase is not Phase.RUN:
        return S.FINALIZE_FAILED
    return S.TIMED_OUT if timed_out else S.FAILED


def _fail(state: State, _: int) -> State:
    return _settled(state, failed_status(state.phase))


def _time_out(state: State, _: int) -> State:
    return _settled(state, failed_status(state.phase, timed_out=True))


def _repeat(state: State, _: int) -> State:
    return _settled(state, S.READY, attempts=0, iteration=state.iteration + 1)


def _spawn(state: State, children: int) -> State:
    return _settled(
        state,
        S.WAITING_FOR_CHILDREN if children else S.READY,
        phase=Phase.CHILDREN,
        attempts=0,
        iteration=state.iteration + 1 if state.kind is Kind.SEQUENCE else state.iteration,
        children_count=state.children_count + children,
        active_children_count=state.active_children_count + children,
    )


def _spawn_finalize(state: State, children: int) -> State:
    if children != 1:
        raise TransitionRefused(state.status, Event.SPAWN_FINALIZE, "there is one finalize execution")
    return _settled(
        state,
        S.WAITING_FOR_FINALIZE,
        phase=Phase.FINALIZE,
        attempts=0,
        active_children_count=state.active_children_count + 1,
    )


def _sleep(state: State, _: int) -> State:
    return _settled(_workflow(state, Event.SLEEP), S.READY, attempts=0)


def _resume(state: State, _: int) -> State:
    return replace(_workflow(state, Event.RESUME), status=S.READY)


def _accept_cancel(state: State, _: int) -> State:
    return _settled(_workflow(state, Event.ACCEPT_CANCEL), S.CANCELLED)


def _workflow(state: State, event: Event) -> State:
    if state.kind is not Kind.WORKFLOW:
        raise TransitionRefused(state.status, event, "it is no workflow")
    return state


def _release(state: State, _: int) -> State:
    return replace(
        state,
        status=S.READY,
        fence=state.fence + 1,
        settled_fence=state.fence,
        attempts=state.attempts - 1,
        deliveries=state.deliveries - (state.reason != UNSTARTED),
        needs_cancel=False,
        reason=None,
    )


def _expire_lease(state: State, _: int) -> State:
    if state.deliveries < state.max_deliveries:
        return replace(
            state, status=S.READY, fence=state.fence + 1, attempts=state.attempts - 1, needs_cancel=False, reason=None
        )
    poisoned = replace(
        state, status=failed_status(state.phase), fence=state.fence + 1, reason="poisoned", needs_cancel=False
    )
    return _finished(poisoned)


def _children_finished(state: State, children: int) -> State:
    left = state.active_children_count - children
    if left < 0:
        raise TransitionRefused(state.status, Event.CHILDREN_FINISHED, "more children finished than were active")
    if left:
        return replace(state, active_children_count=left)
    return replace(state, status=S.READY, active_children_count=0)


def _end_waiting(status: Status) -> Callable[[State, int], State]:
    def end(state: State, _: int) -> State:
        return _finished(replace(state, status=status, fence=state.fence + 1))

    return end


def _cancel(state: State, _: int) -> State:
    return _finished(replace(state, status=S.CANCELLED, fence=state.fence + 1, needs_cancel=state.status is S.RUNNING))


def _redrive(state: State, _: int) -> State:
    """A parent that lost its finalize finalizes again; everything else starts anew, if it has no children."""
    if state.close_status is not C.CLOSED:
        raise TransitionRefused(state.status, Event.REDRIVE, "it is not closed yet; try again")
    if state.kind is Kind.SLEEPING:
        raise TransitionRefused(state.status, Event.REDRIVE, "a sleeping task has nothing to run; enqueue it anew")
    if state.kind is Kind.TURN:
        raise TransitionRefused(state.status, Event.REDRIVE, "it is a turn of a job; redrive the job")
    if state.kind is Kind.WORKFLOW:
        raise TransitionRefused(state.status, Event.REDRIVE, "it is a workflow; fork it")
    if state.status is not S.FINALIZE_FAILED and state.children_count:
        raise TransitionRefused(state.status, Event.REDRIVE, "it has children; enqueue it anew")
    return replace(
        state,
        status=S.READY,
        phase=Phase.CHILDREN if state.status is S.FINALIZE_FAILED else Phase.RUN,
        fence=state.fence + 1,
        attempts=0,
        deliveries=0,
        close_status=C.IDLE,
        reason=None,
        needs_cancel=False,
    )


_APPLY: Final[Mapping[Event, Callable[[State, int], State]]] = {
    Event.CLAIM: _claim,
    Event.COUNT_START: _count_start,
    Event.COMPLETE: lambda state, _: _settled(state, S.COMPLETED),
    Event.FAIL: _fail,
    Event.TIME_OUT: _time_out,
    Event.RETRY: lambda state, _: _settled(state, S.READY),
    Event.REPEAT: _repeat,
    Event.SPAWN: _spawn,
    Event.SPAWN_FINALIZE: _spawn_finalize,
    Event.SUSPEND: lambda state, _: _settled(state, S.WAITING, attempts=0),
    Event.SLEEP: _sleep,
    Event.RESUME: _resume,
    Event.RELEASE: _release,
    Event.EXPIRE_LEASE: _expire_lease,
    Event.CHILDREN_FINISHED: _children_finished,
    Event.WAKE_COMPLETED: _end_waiting(S.COMPLETED),
    Event.WAKE_FAILED: _end_waiting(S.FAILED),
    Event.EXPIRE_WAIT: _end_waiting(S.TIMED_OUT),
    Event.CANCEL: _cancel,
    Event.ACCEPT_CANCEL: _accept_cancel,
    Event.REDRIVE: _redrive,
}


def apply_close(close_status: CloseStatus, event: CloseEvent, *, active_children: int = 0) -> CloseStatus:
    """The close status after `event`, or TransitionRefused. CLOSE needs every child to have finished."""
    if event not in CLOSE_TRANSITIONS[close_status]:
        raise TransitionRefused(close_status, event)
    if event is CloseEvent.CLOSE and active_children:
        raise TransitionRefused(close_status, event, "children are still active")
    if event is CloseEvent.FINISH:
        return C.READY if active_children else C.CLOSED
    (after,) = CLOSE_TRANSITIONS[close_status][event]
    return after


_COMPLETED: Final = S.COMPLETED  # to look a member up in its enum takes longer than in the module
_NOTHING_MORE: Final = Suspension()
"""What the end of a workflow's turn writes beside it, where it was not given anything."""

# What an attempt writes when its turn ends. These build the row of the write straight from the claim, because they
# run once per execution; a test holds each of them equal to `apply`.


def complete(turn: Claimed, output: str, writes: Suspension | None = None) -> Settlement:
    """The turn gave the execution's result. `writes`: here and below, what a workflow's turn writes with its end.

    A workflow keeps what it continued with: it may be forked.
    """
    kept = None
    if turn.kind is Kind.WORKFLOW:
        writes, kept = _writes(turn, writes), turn.run_output
    return Settlement(
        turn.id, turn.fence, _COMPLETED, turn.phase, turn.attempts, 0, turn.iteration, 0.0, output, kept, None, None,
        (), None, (), writes, turn.parent_id is None and writes is None,
    )  # fmt: skip


def fail(
    turn: Claimed,
    error: str,
    *,
    retry_delay: float | None,
    timed_out: bool = False,
    reason: str | None = None,
    writes: Suspension | None = None,
) -> Settlement:
    """The attempt failed: `retry_delay` seconds until the next one, or None for the end."""
    status = S.READY if retry_delay is not None else failed_status(turn.phase, timed_out=timed_out)
    return Settlement(
        turn.id, turn.fence, status, turn.phase, turn.attempts, 0, turn.iteration,
        retry_delay or 0.0, None, turn.run_output, error, reason, workflow=_writes(turn, writes),
    )  # fmt: skip


def cancelled(turn: Claimed, error: str, reason: str, writes: Suspension | None = None) -> Settlement:
    """The turn ends the execution as cancelled, as it was asked to."""
    return Settlement(
        turn.id, turn.fence, S.CANCELLED, turn.phase, turn.attempts, 0, turn.iteration,
        0.0, None, turn.run_output, error, reason, workflow=_writes(turn, writes),
    )  # fmt: skip


def _writes(turn: Claimed, writes: Suspension | None) -> Suspension | None:
    """A workflow's end always carries one, by which the storage knows it: its children may end in the same write."""
    return writes or (_NOTHING_MORE if turn.kind is Kind.WORKFLOW else None)


def suspend(turn: Claimed, suspension: Suspension) -> Settlement:
    """The turn of a workflow ends and another follows: when one of the things that it waits for comes, or anew.

    The status is the one that holds if nothing has come meanwhile; the storage makes it ready at once if something has.
    """
    if suspension.continued is not None:
        return Settlement(
            turn.id, turn.fence, S.READY, turn.phase, 0, 0, turn.iteration + 1,
            0.0, None, suspension.continued, None, None, workflow=suspension,
        )  # fmt: skip
    status = S.WAITING if suspension.delay is None else S.READY
    return Settlement(
        turn.id, turn.fence, status, turn.phase, 0, 0, turn.iteration,
        suspension.delay or 0.0, None, turn.run_output, None, None, workflow=suspension,
    )  # fmt: skip


def repeat(turn: Claimed, delay: float, state: str | None) -> Settlement:
    """A loop takes another turn after `delay` seconds; `state` is what it carries over."""
    return Settlement(
        turn.id, turn.fence, S.READY, turn.phase, 0, 0, turn.iteration + 1, delay, None, state, None, None
    )


def spawn(turn: Claimed, run_output: str | None, children: tuple[NewExecution, ...]) -> Settlement:
    """The turn ends by starting children; the execution goes on when the last of them has finished.

    Without children it is ready for its next phase at once. A sequence counts the children it started as iterations.
    """
    status = S.WAITING_FOR_CHILDREN if children else S.READY
    iteration = turn.iteration + 1 if turn.kind is Kind.SEQUENCE else turn.iteration
    return Settlement(
        turn.id, turn.fence, status, Phase.CHILDREN, 0, 0, iteration, 0.0, None, run_output, None, None, children
    )


def spawn_finalize(turn: Claimed, finalize: NewExecution) -> Settlement:
    """The turn ends by starting the finalize execution, whose end becomes that of the parent."""
    return Settlement(
        turn.id, turn.fence, S.WAITING_FOR_FINALIZE, Phase.FINALIZE, 0, 0, turn.iteration, 0.0, None,
        turn.run_output, None, None, (finalize,),
    )  # fmt: skip


def counted(turn: Claimed) -> Claimed:
    """A suspect whose delivery was counted, because it starts now."""
    return turn._replace(deliveries=turn.deliveries + 1, is_suspect=False)


def blocked(turn: Claimed, error: str, reason: str) -> Settlement:
    """Keep an execution that cannot go on for now: given back unharmed, and tried again after a pause."""
    return release(turn)._replace(delay=_BLOCKED_PAUSE, error=error, reason=reason)


def release(turn: Claimed) -> Settlement:
    """Give a claimed execution back unharmed: neither the attempt nor the delivery counts."""
    deliveries = turn.deliveries - (not turn.is_suspect)
    return Settlement(
        turn.id, turn.fence, S.READY, turn.phase, turn.attempts - 1, deliveries, turn.iteration,
        0.0, None, turn.run_output, turn.error, None, workflow=_writes(turn, None),
    )  # fmt: skip
