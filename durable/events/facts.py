"""What happened to an execution, by name: from the end of a turn, or from a record that was ended otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from durable.events.event import EventName
from durable.execution import Claimed, Execution, Settlement, Status
from durable.outcomes import Outcome

__all__ = ["EXECUTIONS", "Describer", "Fact", "TurnEnd"]


class Fact(NamedTuple):
    """Something that happens with a commit, before anybody is found who wants to know."""

    name: EventName
    subject: str
    kind: str
    task_name: str
    data: Mapping[str, Any]
    """JSON values, and no payload among them. Those that are None are left out."""
    key: str | None = None
    error: str | None = None
    """The stored error."""
    payload: Mapping[str, str | None] = {}
    """Stored payloads by name."""


class TurnEnd(NamedTuple):
    """How a turn ended, as the executor that ran it knows."""

    turn: Claimed
    settlement: Settlement
    outcome: Outcome | None
    """What the kind made of the turn; None where it raised, and where its end could not be written."""
    seconds: float
    """How long the attempt ran."""
    exhausted: str | None
    """The limit that ended the retries: max_attempts or max_duration; None where none did."""
    about: object | None = None
    """What the kind left on the attempt before it ran; there also where the turn raised."""

    @property
    def is_failure(self) -> bool:
        """The attempt failed, and was not given back: a release takes its attempt away again."""
        settlement = self.settlement
        return settlement.error is not None and settlement.attempts == self.turn.attempts


class Describer(NamedTuple):
    """How the ends of one kind are told."""

    of_turn: Callable[[TurnEnd], Iterator[Fact]]
    of_record: Callable[[Execution], Iterator[Fact]]


def _execution_turn(end: TurnEnd) -> Iterator[Fact]:
    """A turn after which the execution goes on without a failure happened, but is no news of its own."""
    if end.settlement.status is Status.COMPLETED:
        yield _turn_fact(EventName.EXECUTION_COMPLETED, end)
        return
    if not end.is_failure:
        return
    will_retry = end.settlement.status is Status.READY
    is_timeout = end.settlement.status is Status.TIMED_OUT
    yield _turn_fact(
        EventName.EXECUTION_TIMED_OUT if is_timeout else EventName.EXECUTION_FAILED,
        end,
        will_retry=will_retry,
        retry_in_s=end.settlement.delay if will_retry else None,
        reason=end.settlement.reason,
    )
    if end.exhausted is not None and not will_retry:
        yield _turn_fact(EventName.EXECUTION_RETRY_EXHAUSTED, end, reason=end.exhausted)


def _turn_fact(name: EventName, end: TurnEnd, **data: Any) -> Fact:
    turn, settlement = end.turn, end.settlement
    common = {
        "status": str(settlement.status),
        "root_id": turn.root_id,
        "queue": turn.queue,
        "attempt": turn.attempts,
        "max_attempts": turn.max_attempts,
        "duration_ms": round(end.seconds * 1000, 3),
    }
    payload = {"input": turn.input, "output": settlement.output}
    return Fact(name, turn.id, turn.kind, turn.task_name, {**common, **data}, error=settlement.error, payload=payload)


def _execution_record(record: Execution) -> Iterator[Fact]:
    name = _RECORD_NAMES[record.status]
    is_failure = name in (EventName.EXECUTION_FAILED, EventName.EXECUTION_TIMED_OUT)
    data = {
        "status": str(record.status),
        "root_id": record.root_id,
        "queue": record.queue,
        "attempt": record.attempts,
        "max_attempts": record.max_attempts,
        "will_retry": False if is_failure else None,
        "reason": record.reason,
        "executor_id": record.executor_id,
    }
    payload = {"input": record.input, "output": record.output}
    yield Fact(name, record.id, record.kind, record.task_name, data, error=record.error, payload=payload)


_RECORD_NAMES: Final[Mapping[Status, EventName]] = {
    Status.READY: EventName.EXECUTION_RECOVERED,
    Status.COMPLETED: EventName.EXECUTION_COMPLETED,
    Status.FAILED: EventName.EXECUTION_FAILED,
    Status.FINALIZE_FAILED: EventName.EXECUTION_FAILED,
    Status.TIMED_OUT: EventName.EXECUTION_TIMED_OUT,
    Status.CANCELLED: EventName.EXECUTION_CANCELLED,
}
"""What leaves a record in that status, other than the end of a turn."""

EXECUTIONS: Final = Describer(_execution_turn, _execution_record)
