"""Replay: a body and its history give how it ended, or what it waits for. No I/O, no clock, no thread.

The body runs on a loop of its own. Whatever it asks of the world is a command with a key: its name and occurrence. An
entry of the history that has the key answers it; what has no answer yet is pending, and somebody else's to carry out.
Entries are delivered one by one, in the order in which they were written, and the body runs as far as it can after
each, so that its own code meets them in the same order every time.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from durable.errors import ErrorInfo, HistoryTooLong, StepFailed, StepMismatch
from durable.execution import FinishedExecution, Status
from durable.workflow.entries import Command, EntryKind, Mark, RunStep, Send, Sleep, StartChild, WaitMessage
from durable.workflow.loop import WorkflowLoop
from durable.workflow.outbox import Outbox
from durable.workflow_rows import Entry, Message, MessageKind

__all__ = ["MOST_ENTRIES", "Ended", "Pending", "Replay"]

MOST_ENTRIES: Final = 10_000
"""In one history; a replay of so many takes about a tenth of a second."""
_ANSWERS: Final[dict[type[Any], frozenset[EntryKind]]] = {
    RunStep: frozenset({EntryKind.STEP, EntryKind.ATTEMPT}),
    Sleep: frozenset({EntryKind.SLEEPING, EntryKind.SLEPT}),
    WaitMessage: frozenset({EntryKind.SLEEPING, EntryKind.SLEPT, EntryKind.SIGNAL}),
    StartChild: frozenset({EntryKind.CHILD, EntryKind.CHILD_END}),
    Mark: frozenset({EntryKind.MARK}),
    Send: frozenset({EntryKind.MARK}),
}


_NOUNS: Final[dict[type[Any], str]] = {
    RunStep: "step",
    Sleep: "sleep",
    WaitMessage: "wait",
    StartChild: "child",
    Mark: "mark",
    Send: "message",
}


@dataclass(slots=True, eq=False)
class Pending:
    """A command of the body, and how far it has come."""

    key: str
    command: Command
    future: asyncio.Future[Any]
    attempts: int = 0
    """Of a step: attempts that have failed."""
    error: ErrorInfo | None = None
    """Of a step: the last of those failures."""
    due_at: datetime | None = None
    """When its timer fires, or its next attempt begins; None: it has none, or none yet."""
    first_at: datetime | None = None
    """When its first attempt failed."""
    child_id: str | None = None
    is_taken: bool = False
    """Somebody carries it out already."""

    @property
    def is_open(self) -> bool:
        return not self.future.done()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a body ended: with a value, or with an error."""

    value: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class _Inbox:
    """Messages that no wait has met, by name, in order."""

    waiting: dict[str, deque[Message]] = field(default_factory=lambda: defaultdict(deque))
    by_number: dict[int, Message] = field(default_factory=dict[int, Message])
    met: set[int] = field(default_factory=set[int])


class Replay:
    """One workflow in memory. `body` is called at once and must not run before the loop does."""

    def __init__(
        self,
        body: Callable[[Replay], Coroutine[Any, Any, Any]],
        *,
        started_at: datetime,
        code: str,
        load_error: Callable[[str], ErrorInfo],
        outbox: Outbox,
    ) -> None:
        self.now = started_at
        """The moment of the last entry that was delivered: what the body takes for now."""
        self.seq = 0
        """Of the last entry that was delivered."""
        self.seen_messages = 0
        """The number of the last message that was given here."""
        self.ended: Ended | None = None
        self.is_replaying = False
        """Entries of the history are still to be delivered: what the body does now it has done before."""
        self.stop_kind: str | None = None
        """Why the body was told to stop: cancelled or timed_out; None: it was not."""
        self.stop_reason = ""
        self.has_timers = False
        """Some command of the body has had a moment at which it goes on."""
        self.chunk_count = 0
        """Pieces that the body has streamed."""
        self.stored_chunk_count = 0
        """Of those, the ones that are stored."""
        self.outbox = outbox
        self._load_error = load_error
        self.code = code
        self._codes: list[str] = []
        self._loop = WorkflowLoop()
        self._pending: dict[str, Pending] = {}
        self._occurrences: dict[str, int] = defaultdict(int)
        self._unmet: dict[str, list[Entry]] = {}
        """Entries that were delivered before the body asked for them, if it ever does."""
        self._marks: set[str] = set()
        """Keys of the marks of the whole history, also of what is still to be delivered."""
        self._patches: dict[str, bool] = {}
        self._inbox = _Inbox()
        self._fresh: list[Pending] = []
        self._released: list[Pending] = []
        self._main = self._loop.create_task(body(self))

    # --- the body's side ------------------------------------------------------------------------------------

    def key(self, name: str) -> str:
        """The key of the next command of that name."""
        self._occurrences[name] += 1
        return f"{name}#{self._occurrences[name]}"

    def issue(self, name: str, command: Command) -> asyncio.Future[Any]:
        """What will answer the command; it is answered already if the history was here before."""
        if self.seq >= MOST_ENTRIES and self.stop_kind is None:
            raise HistoryTooLong(MOST_ENTRIES)
        pending = Pending(self.key(name), command, self._loop.create_future())
        self._pending[pending.key] = pending
        for entry in self._unmet.pop(pending.key, ()):
            self._answer(pending, entry)
        if pending.is_open:
            self._fresh.append(pending)
            pending.future.add_done_callback(lambda _: self._settle(pending))
        return pending.future

    def patched(self, patch_id: str) -> bool:
        """True if the body is to run the new code: it met the patch before, or has not come beyond it yet."""
        if patch_id not in self._patches:
            name = f"patch:{patch_id}"
            is_met = f"{name}#1" in self._marks or not self.is_replaying
            self._patches[patch_id] = is_met
            if is_met:
                self.issue(name, Mark())
        return self._patches[patch_id]

    def _settle(self, pending: Pending) -> None:
        """Its command is answered, or nobody waits for it any more."""
        self._pending.pop(pending.key, None)
        if pending.future.cancelled():
            self._released.append(pending)

    # --- the driver's side ----------------------------------------------------------------------------------

    def start(self, entries: Iterable[Entry] = (), messages: Iterable[Message] = ()) -> None:
        """Run the body for the first time, through all of its history. Raises StepMismatch where the two differ."""
        stored = list(entries)
        self.take_messages(messages)
        self._marks = {entry.key for entry in stored if entry.kind == EntryKind.MARK}
        if stored and stored[0].kind == EntryKind.CODE:
            self.now = _moment(stored[0])  # the body may ask for the time before it asks for anything else
        self.is_replaying = bool(stored)
        self._run()
        for left, entry in zip(range(len(stored) - 1, -1, -1), stored, strict=True):
            self.is_replaying = left > 0
            self.deliver(entry)
        if self._unmet and self._is_same_code and (self._fresh or self.ended is not None):
            self._refuse(next(iter(self._unmet.values()))[0])

    @property
    def _is_same_code(self) -> bool:
        return set(self._codes) == {self.code}

    @property
    def is_new_code(self) -> bool:
        """The history does not know yet that this body runs it."""
        return not self._codes or self._codes[-1] != self.code

    def _refuse(self, unmet: Entry) -> None:
        found = next((f"{_noun(p.command)} {p.key!r}" for p in self._fresh), "the end of the workflow")
        raise StepMismatch(f"{unmet.kind} {unmet.key!r}", found)

    def deliver(self, entry: Entry) -> None:
        """Give the body the next entry of its history, and let it run as far as it can."""
        self.seq = max(self.seq, entry.seq)
        match entry.kind:
            case EntryKind.CODE:
                self._codes.append(entry.key)
                self._pass(_moment(entry))
            case EntryKind.CHUNKS:
                self.stored_chunk_count = int(entry.key)
            case EntryKind.CANCEL:
                self.stop_kind, self.stop_reason = entry.key, json.loads(entry.detail or "{}")["reason"]
                self._pass(_moment(entry))
                self._main.cancel(self.stop_reason)
                self._run()
            case _:
                pending = self._pending.get(entry.key)
                if pending is not None:
                    self._answer(pending, entry)
                elif self._was_issued(entry.key):
                    return  # the body had given it up when its answer came
                else:
                    self._unmet.setdefault(entry.key, []).append(entry)
                self._run()

    def take_messages(self, messages: Iterable[Message]) -> None:
        """Keep messages until the body waits for them; those it was given before are passed over."""
        for message in messages:
            if message.number <= self.seen_messages:
                continue
            self.seen_messages = message.number
            self._inbox.by_number[message.number] = message
            if message.number not in self._inbox.met:
                self._inbox.waiting[_box(message.kind, message.name)].append(message)

    def take_fresh(self) -> list[Pending]:
        """Commands that nobody has been given yet, and that are not answered."""
        if not self._fresh:
            return []
        fresh, self._fresh = [p for p in self._fresh if p.is_open and not p.is_taken], []
        for pending in fresh:
            pending.is_taken = True
        return fresh

    def take_released(self) -> list[Pending]:
        """Commands that somebody was given, and whose answer nobody waits for any more."""
        if not self._released:
            return []
        released, self._released = [p for p in self._released if p.is_taken], []
        return released

    @property
    def open(self) -> list[Pending]:
        """What the body waits for, in the order in which it asked."""
        return [pending for pending in self._pending.values() if not pending.future.done()]

    def messages_met(self) -> Iterator[tuple[Pending, int]]:
        """Waits that have a message by now, each with its number; the first who waited gets the first that came."""
        if not self._inbox.waiting:
            return
        taken: dict[str, int] = defaultdict(int)
        for pending in self.open:
            if not isinstance(pending.command, WaitMessage):
                continue
            box = self._inbox.waiting.get(pending.command.name, ())
            index = taken[pending.command.name]
            if index < len(box):
                taken[pending.command.name] += 1
                yield pending, box[index].number

    @property
    def unmet_messages(self) -> tuple[int, ...]:
        """The numbers of messages that no wait has met."""
        return tuple(number for number in self._inbox.by_number if number not in self._inbox.met)

    def stop_requested(self) -> Message | None:
        """The request to stop that the body has not been told of."""
        if not self._inbox.waiting:
            return None
        box = self._inbox.waiting.get(_box(MessageKind.CANCEL, ""))
        return box[0] if box and self.stop_kind is None else None

    def close(self) -> None:
        """Let go of the body without running it any further."""
        self._loop.close()

    # --- inside ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        if self.ended is not None:
            return
        self._loop.run_ready()
        if self._loop.error is not None:
            error, self._loop.error = self._loop.error, None
            self._main.cancel()
            self.ended = Ended(error=error)
        elif self._main.done():
            if self._main.cancelled():
                self.ended = Ended(error=asyncio.CancelledError(self.stop_reason or "by its own code"))
            else:
                raised = self._main.exception()
                self.ended = Ended(error=raised) if raised is not None else Ended(self._main.result())

    def _was_issued(self, key: str) -> bool:
        name, _, occurrence = key.rpartition("#")
        return int(occurrence) <= self._occurrences.get(name, 0)

    def _answer(self, pending: Pending, entry: Entry) -> None:
        command = pending.command
        if entry.kind not in _ANSWERS[type(command)]:
            raise StepMismatch(f"{entry.kind} {entry.key!r}", f"{_noun(command)} {pending.key!r}")
        if not pending.is_open:
            return
        match entry.kind:
            case EntryKind.STEP:
                self._end_step(pending, entry)
            case EntryKind.ATTEMPT:
                self._count_attempt(pending, entry)
            case EntryKind.SLEEPING:
                self.has_timers = True
                pending.due_at = datetime.fromisoformat(json.loads(entry.detail or "{}")["until"])
            case EntryKind.SLEPT if isinstance(command, Sleep):
                self._pass(_moment(entry))
                pending.future.set_result(None)
            case EntryKind.SLEPT:
                self._pass(_moment(entry))
                pending.future.set_exception(TimeoutError(f"no message came for {pending.key!r} in time"))
            case EntryKind.SIGNAL:
                self._pass(_moment(entry))
                self._meet(pending, int(json.loads(entry.detail or "{}")["number"]))
            case EntryKind.CHILD:
                self._start_child(pending, entry)
            case EntryKind.CHILD_END:
                self._end_child(pending, entry)
            case _:
                pending.future.set_result(None)

    def _pass(self, at: datetime) -> None:
        """Time goes on, and never back. Only by what is the same in a replay: when an entry that need not be written at
        once is written depends on what else happens."""
        self.now = max(self.now, at)

    def _end_step(self, pending: Pending, entry: Entry) -> None:
        self._pass(entry.at)
        if entry.error is not None:
            pending.future.set_exception(StepFailed(entry.key, self._load_error(entry.error)))
            return
        command = pending.command
        assert isinstance(command, RunStep)
        try:
            value = command.load(entry.output or "null")
        except Exception as error:
            raise StepMismatch(
                f"a result of step {entry.key!r}", f"a return type that cannot read it: {error}"
            ) from None
        pending.future.set_result(value)

    def _count_attempt(self, pending: Pending, entry: Entry) -> None:
        detail = json.loads(entry.detail or "{}")
        self._pass(entry.at)
        pending.attempts = int(detail["attempt"])
        pending.error = self._load_error(entry.error or "")
        pending.first_at = pending.first_at or entry.at
        self.has_timers = True
        pending.due_at = entry.at + timedelta(seconds=float(detail["delay"]))

    def _meet(self, pending: Pending, number: int) -> None:
        message = self._inbox.by_number[number]
        self._inbox.met.add(number)
        box = self._inbox.waiting[_box(message.kind, message.name)]
        if message in box:
            box.remove(message)
        command = pending.command
        assert isinstance(command, WaitMessage)
        _resolve(pending.future, lambda: command.load(message.payload))

    def _start_child(self, pending: Pending, entry: Entry) -> None:
        detail = json.loads(entry.detail or "{}")
        assert isinstance(pending.command, StartChild)
        if detail["task"] != pending.command.child.new.task_name:
            found = pending.command.child.new.task_name
            raise StepMismatch(f"child {entry.key!r} of task {detail['task']!r}", f"task {found!r}")
        pending.child_id = detail["id"]

    def _end_child(self, pending: Pending, entry: Entry) -> None:
        assert isinstance(pending.command, StartChild)
        read = pending.command.read
        status = Status(json.loads(entry.detail or "{}")["status"])
        self._pass(_moment(entry))
        end = FinishedExecution(pending.child_id or "", status, entry.output, entry.error)
        _resolve(pending.future, lambda: read(end))


def _moment(entry: Entry) -> datetime:
    """When it happened, as the turn that wrote it knew; not when it was written."""
    return datetime.fromisoformat(json.loads(entry.detail or "{}")["at"])


def _resolve(future: asyncio.Future[Any], give: Callable[[], Any]) -> None:
    """What gives the answer may be a user's code, which may raise what it likes."""
    try:
        future.set_result(give())
    except Exception as error:
        future.set_exception(error)


def _box(kind: MessageKind, name: str) -> str:
    """Where it waits: requests to stop in one place, whatever they are called; no signal's name begins with NUL."""
    match kind:
        case MessageKind.SIGNAL:
            return name
        case MessageKind.CANCEL:
            return "\x00cancel"
        case MessageKind.UPDATE:
            return f"\x00update:{name}"


def _noun(command: Command) -> str:
    return _NOUNS[type(command)]
