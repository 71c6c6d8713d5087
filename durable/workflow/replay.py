"""Replay: a body and its history give how it ended, or what it waits for. No I/O, no clock, no thread.

The body runs on a loop of its own. Whatever it asks of the world is a command with a key: its name and occurrence. An
entry of the history that has the key answers it; what has no answer yet is pending, and somebody else's to carry out.
Entries are delivered one by one, in the order in which they were written, and the body runs as far as it can after
each, so that its own code meets them in the same order every time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, partial
from random import Random
from typing import Any, Final

from durable.errors import ErrorInfo, HistoryTooLong, StepFailed, StepMismatch
from durable.execution import FinishedExecution, Status
from durable.workflow.codes import Codes
from durable.workflow.commands import Commands
from durable.workflow.compare import answers, arguments_differ, digest_of, has_its_arguments, noun, with_digest
from durable.workflow.entries import (
    STUCK,
    Command,
    EntryKind,
    Mark,
    RunStep,
    Sleep,
    StartChild,
    WaitMessage,
)
from durable.workflow.failed import Failed, hold_to
from durable.workflow.fanout import MapChildren
from durable.workflow.inbox import Inbox
from durable.workflow.loop import Entered, WorkflowLoop
from durable.workflow.outbox import Outbox
from durable.workflow.pending import Pending
from durable.workflow.spoken import Spoken
from durable.workflow.started import started_id
from durable.workflow.telling import moment_of
from durable.workflow.updates import Answer, Updates, answer_key
from durable.workflow_rows import Entry, Message

__all__ = ["MOST_ENTRIES", "Ended", "Replay"]

MOST_ENTRIES: Final = 10_000
"""In one history; a replay of so many takes about a tenth of a second."""
_MOST_TOLD: Final = 10
"""How often a body is told that it is stuck, and may catch that and wait on; then it is dropped."""
_SILENT: Final = frozenset({EntryKind.CODE, EntryKind.SAID})
"""What the body does not hear of."""
_OF_THE_WHOLE: Final = frozenset({*_SILENT, EntryKind.CANCEL, EntryKind.FAILED, EntryKind.UPDATE})
"""What answers no command of the body."""
_STEP: Final = str(EntryKind.STEP)
_ATTEMPT: Final = str(EntryKind.ATTEMPT)
_CHILD_END: Final = str(EntryKind.CHILD_END)


@dataclass(slots=True)
class Ended:
    """How a body ended: with a value, or with an error."""

    value: Any = None
    error: BaseException | None = None


class Replay:
    """One workflow in memory. `body` is called at once and must not run before the loop does."""

    # Most workflows never set most of these: they stay with the class, which makes a replay quick to make.
    seq = 0
    """Of the last entry that was delivered."""
    _reached = 0
    """Of the last entry that was delivered, those apart whose place differs between the first time and a replay."""
    ended: Ended | None = None
    is_replaying = False
    """Entries of the history are still to be delivered: what the body does now it has done before."""
    stop_kind: str | None = None
    """Why the body was told to stop: cancelled, timed_out or stuck; None: it was not."""
    stop_reason = ""
    is_unwinding = False
    """The body has ended, and what undoes or finalizes it runs: nothing stops that, and no limit of the history."""
    has_timers = False
    """Some command of the body has had a moment at which it goes on."""
    to_undo: Callable[[], tuple[str, ...]] = tuple
    """The names of what the body has registered to undo its work, in the order in which they would run."""
    _mismatch: StepMismatch | None = None
    _told = 0
    failed: Failed | None = None
    """How the body has turned back, or what finalized it; None: neither has failed."""
    is_told_failed = False
    """The history has it that the body has failed."""
    attempt_count = 0
    """Of the entries up to the last, those of failed attempts, also of such as are gone: they count for no limit."""
    give_up: Callable[[BaseException], Coroutine[Any, Any, Any]]
    """Runs in the place of a body that is dropped, or of what finalizes it: undoes what it has done, and raises."""
    input_size = met_size = 0
    """Characters of the stored input, and of all results and errors that were delivered."""

    def __init__(
        self,
        body: Callable[[Replay], Coroutine[Any, Any, Any]],
        *,
        started_at: datetime,
        code: str,
        load_error: Callable[[str], ErrorInfo],
        outbox: Outbox,
        updates: Updates | None = None,
        seed: str = "",
    ) -> None:
        self.own = seed
        """What names this run of this execution."""
        self.seed = seed
        """Of the body's random numbers; that of the history, if there is one, also where it was copied."""
        self.started_at = started_at
        """When the body first began, in this iteration."""
        self.now = started_at
        """The moment of the last entry that was delivered: what the body takes for now."""
        self.spoken = Spoken(seed)
        """What the body says, and how much of it is stored."""
        self.commands = Commands()
        self.outbox = outbox
        self.inbox = Inbox()
        self.updates = updates
        """What it does with updates; None: it meets none."""
        self._load_error = load_error
        self.codes = Codes(code)
        self._loop = WorkflowLoop()
        self._unmet: dict[str, list[Entry]] = {}
        """Entries that were delivered before the body asked for them, if it ever does."""
        self._marks: set[str] = set()
        """Keys of the marks of the whole history, also of what is still to be delivered."""
        self._patches: dict[str, bool] = {}
        self._main = self._loop.create_task(body(self))

    # --- the body's side ------------------------------------------------------------------------------------

    @cached_property
    def random(self) -> Random:
        return Random(self.seed)  # noqa: S311 - for a body's own use, not for secrets

    def issue(self, name: str, command: Command) -> asyncio.Future[Any]:
        """What will answer the command; it is answered already if the history was here before."""
        if (
            self._reached - self.attempt_count + self.commands.owed >= MOST_ENTRIES
            and self.stop_kind in (None, STUCK)
            and not self.is_unwinding
        ):
            raise HistoryTooLong(MOST_ENTRIES)
        pending = self.commands.add(name, command, digest_of(command, self.spoken), self._loop.create_future())
        if self._unmet:
            try:
                for entry in self._unmet.pop(pending.key, ()):
                    self._answer(pending, entry)
            except StepMismatch as error:
                # Not raised in the body, which could catch it, or undo its work because of it: who runs it hears of it.
                self._mismatch = self._mismatch or error
        self.commands.wait(pending)
        return pending.future

    def patched(self, patch_id: str) -> bool:
        """True if the body is to run the new code: it met the patch before, or has left no entry beyond it yet."""
        if patch_id not in self._patches:
            name = f"patch:{patch_id}"
            # A history that only this code has written has met the patch in each of its replays.
            is_met = f"{name}#1" in self._marks or not self.is_replaying or self.codes.is_only_one
            self._patches[patch_id] = is_met
            if is_met:
                self.issue(name, Mark())
        return self._patches[patch_id]

    @property
    def heard(self) -> int:
        """The seq of the last entry that the body has been given: what it has said, it has said after that one."""
        return self._reached

    def run_within(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """From now on all that runs the body is called on that event loop; None: nobody knows."""
        self._loop.outer = loop

    @property
    def thread(self) -> int | None:
        """That in which the body runs; None: it does not."""
        return self._loop.thread

    # --- the driver's side ----------------------------------------------------------------------------------

    def start(self, entries: Iterable[Entry] = (), messages: Iterable[Message] = (), *, known: int = 0) -> None:
        """Run the body for the first time, through all of its history. Raises StepMismatch where the two differ.

        `known` is how many messages were ever sent to it, as far as is known.
        """
        stored = list(entries)
        self.inbox.take(messages, known=known)
        if stored:
            self._go_through(stored)
        else:
            self._run()

    def _go_through(self, stored: list[Entry]) -> None:
        self._marks = {entry.key for entry in stored if entry.kind == EntryKind.MARK}
        self.codes.expect(stored)
        self.spoken.expect(stored, self.codes.code)
        if stored[0].kind == EntryKind.CODE:
            # The body may ask for the time before it asks for anything else.
            self.now = self.started_at = moment_of(stored[0])
            self.seed = json.loads(stored[0].detail or "{}").get("seed", self.seed)
        last = max((place for place, entry in enumerate(stored) if entry.kind not in _SILENT), default=-1)
        self.is_replaying = True
        self._run()
        self.spoken.pass_entry(0)
        for place, entry in enumerate(stored):
            self.is_replaying = place < last
            # What is missing are attempts that were followed by others.
            self.attempt_count += max(entry.seq - self.seq - 1, 0)
            self.deliver(entry)
            self.spoken.pass_entry(entry.seq)
        self.is_replaying = False
        if self._unmet and self.codes.is_only_one:
            self._refuse(next(iter(self._unmet.values()))[0])

    def _refuse(self, unmet: Entry) -> None:
        raise StepMismatch(f"{unmet.kind} {unmet.key!r}", self._came_to)

    @property
    def _came_to(self) -> str:
        if self.ended is not None:
            return "the end of the workflow"
        return next(iter(self.waits_for), "nothing")

    def turn_back(self, error: BaseException) -> None:
        """The body has failed, or what finalizes it: its work is undone from here on."""
        self.is_unwinding, self.failed = True, Failed(error, self.to_undo())

    def deliver_all(self, entries: Iterable[Entry]) -> None:
        """As `deliver`, one after the other; the body's loop is entered once for all of them."""
        with Entered(self._loop):
            for entry in entries:
                self.deliver(entry)

    def deliver(self, entry: Entry) -> None:
        """Give the body the next entry of its history, and let it run as far as it can."""
        if entry.seq > self.seq:
            self.seq = entry.seq
        if entry.kind in _OF_THE_WHOLE:
            self._deliver_to_all(entry)
            return
        if entry.kind == _ATTEMPT:
            self.attempt_count += 1  # the body does not hear of it, and it goes when another follows
        else:
            self._reached = entry.seq
        self.met_size += len(entry.output or entry.error or "")
        pending = self.commands.get(entry.key)
        if pending is not None:
            self._answer(pending, entry)
        elif self.commands.was_given(entry.key):
            self._miss(entry)
            return
        else:
            self._unmet.setdefault(entry.key, []).append(entry)
        self._run()

    def _deliver_to_all(self, entry: Entry) -> None:
        self.met_size += len(entry.output or entry.error or "")
        if entry.kind != EntryKind.SAID:
            self._reached = entry.seq
            self._pass(moment_of(entry))
        match entry.kind:
            case EntryKind.CODE:
                self.codes.deliver(entry)
            case EntryKind.SAID:
                self.spoken.deliver(entry)
            case EntryKind.CANCEL:
                self._stop(entry.key, json.loads(entry.detail or "{}"))
            case EntryKind.FAILED:
                hold_to(entry, self.failed, self._came_to)
                self.is_told_failed = True
            case _:
                self._meet_update(entry)
                self._run()

    @property
    def is_dropped(self) -> bool:
        """Asked by the task of the body: it is not run any more, but put out of memory, and what it does is in vain."""
        return asyncio.current_task() is not self._main

    @property
    def open(self) -> list[Pending]:
        """What the body waits for, in the order in which it asked."""
        return self.commands.open

    def messages_met(self) -> Iterator[tuple[Pending, int]]:
        """Waits that have a message by now, each with its number; the first who waited gets the first that came.

        What came of one may be delivered before the next is asked for: a wait that the body has given up gets none.
        """
        if self.inbox.is_empty:
            return
        taken: set[int] = set()
        for pending in self.open:
            if self.ended is not None:
                return
            if not isinstance(pending.command, WaitMessage) or not pending.is_open:
                continue
            message = next((m for m in self.inbox.of(pending.command.name) if m.number not in taken), None)
            # What came after its timeout is for the next who waits, also if nobody ran when the time was over.
            if message is not None and (pending.due_at is None or message.at < pending.due_at):
                taken.add(message.number)
                yield pending, message.number

    def next_update(self) -> Message | None:
        """The request that is to be accepted or refused next; None: there is none, or it comes too late."""
        return self.inbox.next_update() if self.hears_updates else None

    @property
    def hears_updates(self) -> bool:
        return self.ended is None and self.updates is not None and self.updates.is_open

    @property
    def unmet_messages(self) -> tuple[int, ...]:
        """The numbers of messages that no wait has met."""
        return self.inbox.unmet

    @property
    def can_be_stopped(self) -> bool:
        """By a request; once more by each that comes after its body has heard of those before."""
        return self.ended is None and not self.is_unwinding

    @property
    def can_time_out(self) -> bool:
        return self.stop_kind in (None, STUCK) and self.can_be_stopped

    @property
    def end_notes(self) -> tuple[str, ...]:
        """Of the error that has ended the body: what failed while it was undone and finalized, for one."""
        return tuple(() if self.failed is None else getattr(self.failed.error, "__notes__", ()))

    @property
    def unmet_keys(self) -> tuple[str, ...]:
        """What the history has and the body has not asked for."""
        return tuple(self._unmet)

    @property
    def waits_for(self) -> list[str]:
        """What the body waits for, in words."""
        return [f"{noun(pending.command)} {pending.key!r}" for pending in self.open]

    def close(self) -> None:
        """Let go of the body without running it any further."""
        self._loop.close()
        # Both refer to this: what is left for the collector of garbage makes it slow.
        vars(self).pop("give_up", None)
        if self.updates is not None:
            self.updates.context = None

    # --- inside ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        if self.ended is not None:
            return
        self._loop.run_ready()
        if self._mismatch is not None:
            raise self._mismatch
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

    def _stop(self, kind: str, detail: dict[str, Any]) -> None:
        if self.ended is not None:
            return  # not heard, and so not met: it is for the next run, if there is one
        if "number" in detail and detail.get("of", self.own) == self.own:  # as of an update
            self.inbox.meet_stops(int(detail["number"]))
        if self.is_unwinding and kind != STUCK:
            return  # too late to stop anything
        if self.failed is None:
            self.stop_kind, self.stop_reason = kind, detail["reason"]
        self._told += kind == STUCK
        if self._told > _MOST_TOLD:
            self._drop(detail["reason"])
        else:
            self._main.cancel(detail["reason"])
        self._run()

    def _drop(self, reason: str) -> None:
        """Let go of a body that does not listen, or of what finalizes it."""
        self._told = 0
        self._loop.drop(self._main)
        for pending in self.open:  # its `finally` blocks have asked for it, and nobody waits for it
            pending.future.cancel()
        self._main = self._loop.create_task(self.give_up(asyncio.CancelledError(reason)))

    def _miss(self, entry: Entry) -> None:
        """The body had given it up when its answer came."""
        if entry.kind == EntryKind.CHILD:
            self.commands.abandon(json.loads(entry.detail or "{}")["id"])
        if entry.kind == EntryKind.WAVE:
            self.commands.began_late(entry.key, entry.detail)

    def _answer(self, pending: Pending, entry: Entry) -> None:
        command = pending.command
        if entry.kind == _STEP and isinstance(command, RunStep) and entry.detail == with_digest(pending.digest):
            if not pending.future.done():  # as almost every step, and written by the same code
                self._end_step(pending, command, entry)
            return
        if entry.kind == _CHILD_END and isinstance(command, StartChild):
            if not pending.future.done():
                self._end_child(pending, command, entry)
            return
        if not answers(entry, command):
            raise StepMismatch(f"{entry.kind} {entry.key!r}", f"{noun(command)} {pending.key!r}")
        if not pending.is_open:
            return
        if not has_its_arguments(entry, pending) and self.codes.must_match(entry):
            raise arguments_differ(entry, pending)
        match entry.kind:
            case EntryKind.STEP if isinstance(command, RunStep):
                self._end_step(pending, command, entry)
            case EntryKind.ATTEMPT:
                self._count_attempt(pending, entry)
            case EntryKind.SLEEPING:
                self.commands.pay(pending)
                self.has_timers = True
                pending.due_at = datetime.fromisoformat(json.loads(entry.detail or "{}")["until"])
            case EntryKind.SLEPT if isinstance(command, Sleep):
                self._pass(moment_of(entry))
                pending.future.set_result(None)
            case EntryKind.SLEPT:
                self._pass(moment_of(entry))
                pending.future.set_exception(TimeoutError(f"no message came for {pending.key!r} in time"))
            case EntryKind.SIGNAL:
                self._pass(moment_of(entry))
                self._meet(pending, entry)
            case EntryKind.CHILD:
                self.commands.pay(pending)
                self._start_child(pending, entry)
            case EntryKind.STARTED:
                _resolve(pending.future, partial(started_id, entry, command))
            case EntryKind.WAVE | EntryKind.PAGE | EntryKind.MAPPED:
                self._map(pending, entry)
            case _:
                pending.future.set_result(None)

    def _pass(self, at: datetime) -> None:
        """Time goes on, and never back. Only by what is the same in a replay: when an entry that need not be written at
        once is written depends on what else happens."""
        if at > self.now:
            self.now = at

    def _end_step(self, pending: Pending, command: RunStep, entry: Entry) -> None:
        self._pass(entry.at)
        if entry.error is not None:
            pending.future.set_exception(StepFailed(entry.key, self._load_error(entry.error)))
            return
        try:
            value = command.load(entry.output or "null")
        except Exception as error:
            raise StepMismatch(
                f"a result of step {entry.key!r}", f"a return type that cannot read it: {error}"
            ) from None
        self.commands.answered(pending)
        pending.future.set_result(value)

    def _count_attempt(self, pending: Pending, entry: Entry) -> None:
        detail = json.loads(entry.detail or "{}")
        pending.attempt_seq = entry.seq
        pending.attempts = int(detail["attempt"])
        pending.error = self._load_error(entry.error or "")
        pending.first_at = datetime.fromisoformat(detail["first_at"])
        self.has_timers = True
        pending.due_at = entry.at + timedelta(seconds=float(detail["delay"]))

    def _meet_update(self, entry: Entry) -> None:
        assert self.updates is not None
        detail = json.loads(entry.detail or "{}")
        if detail.get("of", self.own) == self.own:  # not in a copied history, whose messages are another's
            self.inbox.meet(int(detail["number"]))
        key = answer_key(detail["id"])
        if entry.error is not None:
            self._publish(key, Answer(None, entry.error, True).to_text())
            return
        if not self.updates.knows(detail["name"]):
            raise StepMismatch(f"update {entry.key!r}", "a workflow without such an update")
        task = self._loop.create_task(self.updates.start(detail["name"], entry.output or "{}"))
        self.updates.running[task] = detail["name"]
        task.add_done_callback(lambda done: self._answer_update(key, done))

    def _answer_update(self, key: str, task: asyncio.Task[str]) -> None:
        assert self.updates is not None
        answer = self.updates.answer(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, (StepMismatch, HistoryTooLong)):
            self._loop.error = self._loop.error or error  # of the workflow, and not of who asked
        else:
            self._publish(key, answer.to_text())

    def _publish(self, key: str, text: str) -> None:
        if self.spoken.say():
            self.outbox.values[key] = text

    def _meet(self, pending: Pending, entry: Entry) -> None:
        if self.ended is not None:
            return  # as of a request to stop
        command = pending.command
        assert isinstance(command, WaitMessage)
        payload = entry.output  # in a copied history, whose messages are another's
        if payload is None:
            message = self.inbox.meet(int(json.loads(entry.detail or "{}")["number"]))
            assert message is not None
            payload = message.payload
        text = payload
        _resolve(pending.future, lambda: command.load(text))

    def _start_child(self, pending: Pending, entry: Entry) -> None:
        detail = json.loads(entry.detail or "{}")
        assert isinstance(pending.command, StartChild)
        if detail["task"] != pending.command.child.new.task_name:
            found = pending.command.child.new.task_name
            raise StepMismatch(f"child {entry.key!r} of task {detail['task']!r}", f"task {found!r}")
        if detail.get("of", pending.command.parent_id) == pending.command.parent_id:
            pending.child_id = detail["id"]

    def _end_child(self, pending: Pending, command: StartChild, entry: Entry) -> None:
        detail = json.loads(entry.detail or "{}")
        self._pass(datetime.fromisoformat(detail["at"]))
        end = FinishedExecution(detail["id"], Status(detail["status"]), entry.output, entry.error)
        self.commands.answered(pending)
        _resolve(pending.future, lambda: command.read(end))

    def _map(self, pending: Pending, entry: Entry) -> None:
        command = pending.command
        assert isinstance(command, MapChildren)
        match entry.kind:
            case EntryKind.WAVE:
                command.start(entry.detail, is_same_code=self.codes.must_match(entry))
            case EntryKind.PAGE:
                command.take_page(entry.output)
            case _:
                self._pass(moment_of(entry))
                _resolve(pending.future, lambda: command.result(entry.output, entry.detail))


def _resolve(future: asyncio.Future[Any], give: Callable[[], Any]) -> None:
    """What gives the answer may be a user's code, which may raise what it likes."""
    try:
        future.set_result(give())
    except Exception as error:
        future.set_exception(error)
