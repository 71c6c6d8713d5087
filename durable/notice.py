"""The notice: one lifecycle event on its way to one subscriber, as the storages keep it until it is delivered."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

__all__ = ["NewNotice", "Notice", "TakenNotices"]


class NewNotice(NamedTuple):
    """What is stored in the commit that makes the event true. Columns of one insert, in order."""

    subscriber: str
    id: str
    """The event's id: the same for all its subscribers, and later ones sort later."""
    name: str
    subject: str
    """What the event is about, as the id of an execution or a job. Notices of one subject are delivered in order."""
    kind: str
    task_name: str
    key: str | None
    """The key of a job; None for an execution."""
    data: str
    """JSON object of facts that hold no payload."""
    error: str | None
    """The stored error; through the payload codec where there is one."""
    payload: str | None
    """JSON object of stored payloads by name; None unless the subscriber asked for them."""


class Notice(NamedTuple):
    """A notice as its subscriber is given it. Columns of the answer, in order."""

    id: str
    name: str
    at: datetime
    """When it was written, by the storage's clock."""
    subject: str
    kind: str
    task_name: str
    key: str | None
    data: str
    error: str | None
    payload: str | None


class TakenNotices(NamedTuple):
    """What a subscriber is to be given now."""

    notices: tuple[Notice, ...]
    """Oldest first; none if there are none, if another holder delivers, or if a pause after a failure lasts."""
    failure_count: int
    """Deliveries that failed since the last one that did not."""
