"""What the end of a turn makes of its record, as the state machine gives it for the event that leads there."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from durable.errors import TransitionRefused
from durable.execution import Execution, Settlement
from durable.memory.records import state_of, transferred
from durable.transitions import TRANSITIONS, Event, State, apply

__all__ = ["ended_turn"]

_NOT_BY_A_TURN: Final = frozenset({Event.CANCEL, Event.EXPIRE_LEASE})


def ended_turn(record: Execution, settlement: Settlement, now: datetime) -> Execution:
    """The record after the end of its turn; raises TransitionRefused."""
    return transferred(
        record,
        _image(state_of(record), settlement),
        now,
        delay=settlement.delay,
        output=settlement.output,
        run_output=settlement.run_output,
        error=settlement.error,
        reason=settlement.reason,
    )


def _image(state: State, settlement: Settlement) -> State:
    """The state after the turn, as the machine gives it for the event whose image the settlement is.

    A settlement names where the turn leads, not the event. One that is the image of no event was not built from
    this turn: TransitionRefused.
    """
    count = len(settlement.children)
    wanted = (settlement.status, settlement.phase, settlement.attempts, settlement.deliveries, settlement.iteration)
    for event, statuses in TRANSITIONS[state.status].items():
        if event in _NOT_BY_A_TURN or settlement.status not in statuses:
            continue
        try:
            after = apply(state, event, children=count)
        except TransitionRefused:
            continue
        inserted = after.active_children_count - state.active_children_count
        if (after.status, after.phase, after.attempts, after.deliveries, after.iteration, inserted) == (*wanted, count):
            return after
    raise TransitionRefused(state.status, f"a settlement as {settlement.status}", "no event of a turn leads there")
