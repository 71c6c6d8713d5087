"""The rows of workflows: history, messages, published values and chunks, and how a turn of a workflow is written.

Columns stand in the order of the tables. Payloads are stored JSON text; times are aware and the storage's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from durable.execution import NewExecution

__all__ = [
    "CANCELLED_BY_PARENT",
    "CANCEL_MESSAGE_ID",
    "GIVEN_ID",
    "REMEMBERED_FOR",
    "Checkpoint",
    "Checkpointed",
    "ChildTally",
    "Entry",
    "History",
    "Message",
    "MessageKind",
    "NewEntry",
    "NewMessage",
    "Published",
    "SendOutcome",
    "Sent",
    "Standing",
    "StoredChunk",
    "Suspension",
    "cancel_payload",
]

CANCEL_MESSAGE_ID = "durable:cancel"
"""The id of the message that asks a workflow to end: a second request is a duplicate of the first."""

GIVEN_ID = "signal:"
"""Begins the ids of messages that senders have given themselves: remembered as long as the receiver's record."""

REMEMBERED_FOR = timedelta(hours=1)
"""The other ids, counted from when the message was sent: longer than anybody repeats a call by itself."""

CANCELLED_BY_PARENT = "cancelled_by_parent"
"""The reason of an execution whose parent, a workflow that goes on, has cancelled it."""


class NewEntry(NamedTuple):
    """One event of a workflow's history, as the workflow numbers it."""

    seq: int
    """1, 2, 3 … within one execution (and one iteration of it), without gaps but where entries were superseded."""
    kind: str
    """What happened, in a word of the workflow's own; the storage does not look at it."""
    key: str
    """Of which command: its name and occurrence, such as `charge#1`."""
    output: str | None
    error: str | None
    detail: str | None


class Entry(NamedTuple):
    """A stored event of a history. Columns of the table after the execution's id, in order."""

    seq: int
    kind: str
    key: str
    output: str | None
    error: str | None
    detail: str | None
    at: datetime


class MessageKind(StrEnum):
    SIGNAL = "signal"
    UPDATE = "update"
    """A request that the workflow validates and answers."""
    CANCEL = "cancel"
    """Asks the workflow to end; its payload is an object with the `reason`, and the `request` that it was made by."""


def cancel_payload(reason: str, request_id: str | None = None) -> str:
    said = {"reason": reason} if request_id is None else {"reason": reason, "request": request_id}
    return json.dumps(said, ensure_ascii=False)


class NewMessage(NamedTuple):
    """A message to a workflow."""

    execution_id: str
    kind: MessageKind
    name: str
    payload: str
    message_id: str | None
    """Makes it idempotent for its receiver; None: every send is a message.

    One that continues as new remembers the ids of what it has met: those that begin with GIVEN_ID for good, those of
    requests to end not at all, others for REMEMBERED_FOR.
    """


class Message(NamedTuple):
    """A stored message. Columns of the table after the execution's id, in order."""

    number: int
    """1, 2, 3 … per receiver, in the order in which the sends were committed; the count of those ever sent."""
    kind: MessageKind
    name: str
    payload: str
    message_id: str | None
    at: datetime


class SendOutcome(StrEnum):
    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    """A message with that id is there, whatever has become of its receiver; nothing was stored."""
    FINISHED = "finished"
    NOT_FOUND = "not_found"
    NOT_A_WORKFLOW = "not_a_workflow"


class Sent(NamedTuple):
    """What became of one message."""

    execution_id: str
    outcome: SendOutcome
    number: int | None
    """The number of the message, of the one that is there for a duplicate; None where it was refused."""
    ready_queue: str | None
    """The queue in which the receiver became claimable through it."""
    is_running: bool
    """The receiver runs: its executor gets its id from pick_up_cancelled."""


class Checkpoint(NamedTuple):
    """What a running workflow writes while its turn goes on."""

    id: str
    fence: int
    entries: tuple[NewEntry, ...] = ()
    children: tuple[NewExecution, ...] = ()
    """Inserted and counted."""
    values: tuple[tuple[str, str], ...] = ()
    """Published values by key; the last of a key wins."""
    chunks: tuple[str, ...] = ()
    """Pieces of streamed output, appended in this order."""
    messages: tuple[NewMessage, ...] = ()
    """To any workflows, itself included; one that is refused is dropped."""
    cancels: tuple[str, ...] = ()
    """Ids of its own children, to be cancelled as `cancel` does it; others are passed over."""
    is_progress: bool = False
    """Sets deliveries to 1: what gets on does not use up its deliveries."""
    starts: tuple[NewExecution, ...] = ()
    """Roots of trees of their own, without idempotency keys. One whose sleeping id is another's is refused."""
    superseded: tuple[int, ...] = ()
    """The seqs of entries that the new ones stand for: deleted."""

    @property
    def says_something(self) -> bool:
        """To those who read what it publishes and streams."""
        return bool(self.values or self.chunks)


class Standing(NamedTuple):
    """How a workflow stands after its checkpoint."""

    id: str
    message_count: int
    """Messages ever sent to it, those of its own call included, and children of its that failed."""
    active_children_count: int
    at: datetime
    """The moment that the entries of the checkpoint carry: of one that was written before, when it was."""
    now: datetime
    """The storage's clock when it gave this."""


class Checkpointed(NamedTuple):
    accepted: Mapping[str, Standing]
    """By id; the rest had lost their lease and changed nothing."""
    ready_queues: frozenset[str]
    """Queues in which something became claimable at once: children, receivers of messages."""


class ChildTally(NamedTuple):
    """How the children in a range of child indexes stand."""

    finished: int
    """Those that have ended, whatever way."""
    failed: int
    """Of these, the ones that did not complete."""
    open_ids: tuple[str, ...]
    """The others, in child order."""


class Suspension(NamedTuple):
    """What the end of a workflow's turn writes beside the settlement; empty for one that writes nothing more.

    The first six are those of a checkpoint, written before the end. The rest says when a suspended one goes on, and
    means nothing for a turn that completed, failed or was given back.
    """

    entries: tuple[NewEntry, ...] = ()
    children: tuple[NewExecution, ...] = ()
    values: tuple[tuple[str, str], ...] = ()
    chunks: tuple[str, ...] = ()
    messages: tuple[NewMessage, ...] = ()
    cancels: tuple[str, ...] = ()
    seen_messages: int = 0
    """The number of the last message the turn has read; with a later one there, it is ready at once."""
    wake_at_children: int | None = None
    """Ready when so few of its children are active, or fewer, or one fails; None: it does not wait for children."""
    delay: float | None = None
    """Seconds until it is due by itself; None: it waits for messages and children alone."""
    continued: str | None = None
    """The input it continues as new with: its history is deleted, and the messages it has read but for their ids.

    None: it does not.
    """
    kept_messages: tuple[int, ...] = ()
    """Of one that continues as new: numbers of messages that it has read and not met; they stay for its next run."""
    starts: tuple[NewExecution, ...] = ()
    """As of a checkpoint."""

    @property
    def says_something(self) -> bool:
        """To those who read what it publishes and streams."""
        return bool(self.values or self.chunks)


def written_beside(part: Checkpoint | Suspension) -> list[str]:
    """The executions that a turn's write touches beside its own: what it sends to or cancels."""
    return [*(message.execution_id for message in part.messages), *part.cancels]


class History(NamedTuple):
    """What a workflow is replayed from."""

    id: str
    entries: list[Entry]
    messages: list[Message]


class Published(NamedTuple):
    """A published value of a workflow."""

    key: str
    value: str
    version: int
    """1 when it was first published, one more with each checkpoint that published it since."""
    at: datetime


class StoredChunk(NamedTuple):
    """A piece of streamed output."""

    number: int
    """1, 2, 3 … per execution."""
    payload: str
    at: datetime
