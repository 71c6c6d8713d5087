"""The facts of an end, by the kind of what ended. A kind whose ends have names of their own has an entry below."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from durable.events.facts import EXECUTIONS, Describer, Fact, TurnEnd
from durable.events.turns import TURNS
from durable.execution import Execution, Kind

__all__ = ["DESCRIBERS", "facts_of_record", "facts_of_turn"]

DESCRIBERS: Final[Mapping[Kind, Describer]] = {Kind.TURN: TURNS}


def facts_of_turn(end: TurnEnd) -> Iterator[Fact]:
    return DESCRIBERS.get(end.turn.kind, EXECUTIONS).of_turn(end)


def facts_of_record(record: Execution) -> Iterator[Fact]:
    """What happened to an execution that a verb took or ended: cancelled, recovered, woken, too late."""
    return DESCRIBERS.get(record.kind, EXECUTIONS).of_record(record)
