"""Lifecycle events: what happened, told to subscribers after the commit that made it true.

`facts` names what happened, `emitter` turns that into notices for the subscribers there are, the storage keeps them,
and the room `deliver` hands them over. An app without subscribers does none of it.
"""

from durable.events.emitter import RECORDER, Emitter, Subscriber
from durable.events.event import EventName, LifecycleEvent
from durable.events.events import Events, expanded_names
from durable.events.facts import Fact, TurnEnd
from durable.events.turns import fact_of_job

__all__ = [
    "RECORDER",
    "Emitter",
    "EventName",
    "Events",
    "Fact",
    "LifecycleEvent",
    "Subscriber",
    "TurnEnd",
    "expanded_names",
    "fact_of_job",
]
