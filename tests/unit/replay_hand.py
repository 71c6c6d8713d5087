"""A replay driven by hand: entries go in, what the body waits for comes out. No storage, no time, no event loop."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from durable import Durable, WorkflowContext
from durable.errors import ErrorInfo
from durable.execution import Claimed, Kind, Phase
from durable.workflow.compare import digest_detail
from durable.workflow.entries import EntryKind, Mark, RunStep, Send, Sleep, StartChild, WaitMessage
from durable.workflow.outbox import Outbox
from durable.workflow.pending import Pending
from durable.workflow.replay import Replay
from durable.workflow.step import StepPlans
from durable.workflow.undoing import Undoing
from durable.workflow.updates import Updates
from durable.workflow_rows import Entry, Message, MessageKind

__all__ = ["BEGAN", "Body", "Hand", "claimed", "replay_of"]

BEGAN: Final = datetime(2030, 1, 1, tzinfo=UTC)
Body = Callable[[WorkflowContext], Coroutine[Any, Any, Any]]

_app: Final = Durable(storage=None, dsn="postgresql://nobody@nowhere.invalid/nothing")


@_app.workflow
async def _some(ctx: WorkflowContext) -> None:
    """Lends its definition to the contexts."""


def claimed() -> Claimed:
    return Claimed(
        "01a1ff7b-1cef-7c86-a550-67f380a0029e", 1, Kind.WORKFLOW, "some", 1, Phase.RUN, "[]", 1, 1, 0, 1, None, None,
        None, None, "01a1ff7b-1cef-7c86-a550-67f380a0029e", None, None, False, 0, "default", 0, 0.0, created_at=BEGAN,
    )  # fmt: skip


def replay_of(body: Body, code: str = "one") -> Replay:
    plans = StepPlans(lambda: _app.codec)

    def make(replay: Replay) -> Coroutine[Any, Any, Any]:
        updates = Updates({}, _app.codec)
        updates.context = WorkflowContext(replay, claimed(), _some.definition, plans, updates, Undoing([]), None)
        return body(updates.context)

    def load_error(text: str) -> ErrorInfo:
        return ErrorInfo("Stored", text)

    return Replay(make, started_at=BEGAN, code=code, load_error=load_error, outbox=Outbox())


class Hand:
    """Runs a body for the first time, and notes its history."""

    def __init__(self, body: Body, code: str = "one") -> None:
        self.replay = replay_of(body, code)
        self.history: list[Entry] = []
        self.messages: list[Message] = []
        self.replay.start()
        self.give([(EntryKind.CODE, code, None, None, {"at": BEGAN.isoformat()})])

    def give(self, new: list[tuple[EntryKind, str, str | None, str | None, dict[str, Any] | None]]) -> None:
        """Number the entries as one batch, then deliver each."""
        at = BEGAN + timedelta(seconds=len(self.history))
        batch = [
            Entry(len(self.history) + place, str(kind), key, output, error, detail and json.dumps(detail), at)
            for place, (kind, key, output, error, detail) in enumerate(new, 1)
        ]
        self.history += batch
        for entry in batch:
            self.replay.deliver(entry)

    def send(self, name: str, value: Any) -> None:
        message = Message(len(self.messages) + 1, MessageKind.SIGNAL, name, json.dumps(value), None, BEGAN)
        self.messages.append(message)
        self.replay.inbox.take([message], known=message.number)

    def answer(
        self, pending: Pending, *, error: str | None = None
    ) -> tuple[EntryKind, str, str | None, str | None, dict[str, Any] | None]:
        """The next entry of a command, as an executor would write it; of a signal, whose message must be there."""
        digest = digest_detail(pending.digest)
        moment = {"at": (BEGAN + timedelta(seconds=len(self.history))).isoformat()}
        match pending.command:
            case RunStep(plan=plan, args=args, kwargs=kwargs, dump=dump):
                output = None if error else dump(plan.function(*args, **kwargs))
                return EntryKind.STEP, pending.key, output, error, digest
            case Sleep() if pending.due_at is None:
                return (
                    EntryKind.SLEEPING,
                    pending.key,
                    None,
                    None,
                    {"until": moment["at"], **digest},
                )
            case Sleep():
                return EntryKind.SLEPT, pending.key, None, None, moment
            case WaitMessage():
                number = next(number for waits, number in self.replay.messages_met() if waits is pending)
                return (
                    EntryKind.SIGNAL,
                    pending.key,
                    None,
                    None,
                    {"number": number, **moment, **digest},
                )
            case Mark():
                return EntryKind.MARK, pending.key, None, None, None
            case Send():
                return EntryKind.MARK, pending.key, None, None, digest
            case StartChild(child=child):
                detail = {"id": "x", "task": child.new.task_name, **digest}
                return EntryKind.CHILD, pending.key, None, None, detail

    def answer_all(self) -> None:
        """Answer what is open, one batch after another, until nothing is."""
        while self.replay.ended is None and (waiting := list(self.replay.open)):
            self.give([self.answer(pending) for pending in waiting])
