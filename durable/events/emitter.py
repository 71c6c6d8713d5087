"""Find who wants to know of what happened, and write one notice for each; read a notice back as an event."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from durable.codec import Codec
from durable.errors import ConfigurationError, SerializationError
from durable.events.describe import facts_of_record, facts_of_turn
from durable.events.event import EventName, LifecycleEvent
from durable.events.facts import Fact, TurnEnd
from durable.events.pools import fact_of_pool
from durable.events.turns import facts_of_renewal
from durable.execution import Execution, Settlement
from durable.ids import IdSource
from durable.notice import NewNotice, Notice
from durable.pool_rows import DueReport, PoolNote
from durable.storage import Hint, Note

__all__ = ["RECORDER", "Emitter", "Subscriber"]

RECORDER: Final = "_durable_recorder"
"""The name under which events are kept for a test; no subscriber of a user's can have it."""

_log = logging.getLogger("durable")


@dataclass(frozen=True, slots=True)
class Subscriber:
    """Somebody who is told of events, on any executor of the app."""

    name: str
    """Under it the storage keeps what is not yet delivered."""
    names: frozenset[EventName]
    payloads: bool
    batch: int
    """The most events of one call of `send`."""
    send: Callable[[Sequence[LifecycleEvent]], Awaitable[None]]
    """Returns when the events are in the subscriber's hands; raises otherwise, and is then called again with them."""


class Emitter:
    """The subscribers of one app, and the way from a fact to their notices. Never touches a storage."""

    def __init__(self, ids: IdSource, codec: Callable[[], Codec]) -> None:
        self._ids = ids
        self._codec = codec
        self._is_frozen = False
        self._recorder: Subscriber | None = None
        self.subscribers: tuple[Subscriber, ...] = ()

    def add(self, subscriber: Subscriber) -> None:
        """Raises ConfigurationError for a name that is taken, and once an executor runs: it would not deliver."""
        if self._is_frozen:
            raise ConfigurationError("an executor of this app has run already; subscribe before it starts")
        if any(known.name == subscriber.name for known in self.subscribers):
            raise ConfigurationError(
                f"a subscriber named {subscriber.name!r} is there already; give one of them name=…"
            )
        self.subscribers = (*self.subscribers, subscriber)

    def freeze(self) -> tuple[Subscriber, ...]:
        """Those to deliver to, to which none is added from now on."""
        self._is_frozen = True
        return tuple(known for known in self.subscribers if known is not self._recorder)

    @contextmanager
    def recording(self) -> Generator[None]:
        """Keep every event in the storage, delivered to nobody, while the block lasts; for tests."""
        self._recorder = Subscriber(RECORDER, frozenset(EventName), payloads=True, batch=1, send=_to_nobody)
        self.subscribers = (*self.subscribers, self._recorder)
        try:
            yield
        finally:
            self.subscribers = tuple(known for known in self.subscribers if known is not self._recorder)
            self._recorder = None

    @property
    def is_on(self) -> bool:
        return bool(self.subscribers)

    @property
    def note(self) -> Note | None:
        """For verbs that end executions; None where nobody wants to know, which costs them nothing."""
        return self._note if self.subscribers else None

    @property
    def pool_note(self) -> PoolNote | None:
        """For reports of pools; None where nobody wants these, and then nobody looks at what stands in the pools."""
        is_wanted = any(EventName.POOL_REPORT in subscriber.names for subscriber in self.subscribers)
        return self._pool_note if is_wanted else None

    @property
    def delivers_reports(self) -> bool:
        """True when a subscriber is told of reports of pools, and does not merely keep them."""
        told = [subscriber for subscriber in self.subscribers if subscriber is not self._recorder]
        return any(EventName.POOL_REPORT in subscriber.names for subscriber in told)

    @property
    def hints(self) -> tuple[Hint, ...]:
        """What to tell after a commit that may have stored notices."""
        return (Hint("noted", ""),) if self.subscribers else ()

    def told(self, end: TurnEnd) -> Settlement:
        """The end of a turn with its notices, and with those of what may come of it."""
        settlement = end.settlement._replace(notices=tuple(self.notices(facts_of_turn(end))))
        renewal = tuple(self.notices(facts_of_renewal(end)))
        if settlement.job is None or not renewal:
            return settlement
        return settlement._replace(job=settlement.job._replace(renewal=renewal))

    def _note(self, records: Sequence[Execution]) -> list[NewNotice]:
        return self.notices(fact for record in records for fact in facts_of_record(record))

    def _pool_note(self, reports: Sequence[DueReport]) -> list[NewNotice]:
        return self.notices(fact_of_pool(report) for report in reports)

    def notices(self, facts: Iterable[Fact]) -> list[NewNotice]:
        """One notice for each fact and each subscriber who wants it; ids grow in the order of the facts."""
        return [notice for fact in facts for notice in self._notices_of(fact)]

    def _notices_of(self, fact: Fact) -> list[NewNotice]:
        wanting = [subscriber for subscriber in self.subscribers if fact.name in subscriber.names]
        if not wanting:
            return []
        id_ = self._ids.new_id()
        data = json.dumps({name: value for name, value in fact.data.items() if value is not None})
        short = None if fact.error is None else self._without_traceback(fact.error)
        whole = json.dumps({name: text for name, text in fact.payload.items() if text is not None})
        return [
            NewNotice(
                subscriber.name, id_, fact.name, fact.subject, fact.kind, fact.task_name, fact.key, data,
                fact.error if subscriber.payloads else short,
                whole if subscriber.payloads else None,
            )
            for subscriber in wanting
        ]  # fmt: skip

    def _without_traceback(self, error: str) -> str:
        """A traceback may quote values, and is most of an error's size."""
        codec = self._codec()
        return codec.dump_error(replace(codec.load_error(error), traceback=None))

    def event(self, notice: Notice) -> LifecycleEvent:
        return LifecycleEvent(
            id=notice.id,
            name=notice.name,
            at=notice.at,
            subject=notice.subject,
            kind=notice.kind,
            task=notice.task_name,
            key=notice.key,
            data=MappingProxyType(json.loads(notice.data)),
            error=None if notice.error is None else self._codec().load_error(notice.error),
            payload=None if notice.payload is None else self._payload(notice.payload, notice.id),
        )

    def _payload(self, text: str, id_: str) -> Mapping[str, Any]:
        """The payloads by name. One that cannot be read is left out: it must not hold back all events behind it."""
        shape = self._codec().value(Any, "payload of an event")
        payload: dict[str, Any] = {}
        for name, stored in json.loads(text).items():
            try:
                payload[name] = shape.load(stored, name)
            except SerializationError as error:
                _log.error("event %s is delivered without its %s: %s", id_, name, error)
        return MappingProxyType(payload)


async def _to_nobody(events: Sequence[LifecycleEvent]) -> None:
    """What a recorder keeps is read where it is stored."""
