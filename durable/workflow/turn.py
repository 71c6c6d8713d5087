"""The turn of a workflow: carry out what its body asks for, write what has come of it, and let the body go on."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from durable.attempts import Attempt
from durable.child import place
from durable.clock import Clock
from durable.errors import ErrorInfo, LeaseLost
from durable.execution import Claimed, NewExecution
from durable.ids import IdSource
from durable.workflow.entries import EntryKind, Group, Mark, RunStep, Send, Sleep, StartChild, WaitMessage
from durable.workflow.replay import Pending, Replay
from durable.workflow.services import WorkflowServices
from durable.workflow.steps import Finished, StepRuns
from durable.workflow_rows import Checkpoint, Entry, MessageKind, NewEntry, NewMessage, Standing, Suspension

__all__ = ["WorkflowStuck", "WorkflowTurn"]

_log = logging.getLogger("durable")
_WARN_AT: Final = 1000
_SHORT: Final = 1.0
_MUST_BE_WRITTEN: Final = frozenset({EntryKind.STEP, EntryKind.ATTEMPT})
"""Before the body hears of them: it may act on them outside."""
_SHOULD_BE_WRITTEN: Final = frozenset({EntryKind.SLEEPING, EntryKind.CHILD, EntryKind.MARK})
"""Before the turn waits for something else: a crash would begin a sleep anew, and a child would start late."""


class WorkflowStuck(Exception):
    """The body waits for nothing that could come."""

    def __init__(self, error: ErrorInfo) -> None:
        self.error = error
        super().__init__(str(error))


class WorkflowTurn:
    """From the claim to the end of a turn. Entries are numbered, written and delivered in one and the same order."""

    def __init__(
        self,
        attempt: Attempt,
        replay: Replay,
        services: WorkflowServices,
        steps: StepRuns,
        *,
        clock: Clock,
        ids: IdSource,
        claimed_at: datetime,
        deadline: datetime | None,
    ) -> None:
        self._attempt = attempt
        self._claimed: Claimed = attempt.claimed
        self._replay = replay
        self._services = services
        self._steps = steps
        self._outbox = replay.outbox
        self._clock = clock
        self._ids = ids
        self._known = claimed_at, clock.monotonic()
        self._deadline = deadline
        self._message_count = attempt.claimed.message_count
        self._active_children = attempt.claimed.active_children_count
        self._placed = attempt.claimed.children_count
        self._is_progress = attempt.claimed.deliveries > 1
        self._seq = replay.seq
        self._new: list[NewEntry] = []
        """Numbered, and not yet delivered."""
        self._unwritten: list[NewEntry] = []
        self._children: list[NewExecution] = []
        self._messages: list[NewMessage] = []
        self._cancels: list[str] = []
        self._watched: dict[str, asyncio.Future[Any]] = {}
        self._stirred = asyncio.Event()
        steps.on_end = self._stirred.set
        attempt.news = self._stirred.set

    @property
    def has_had_children(self) -> bool:
        return self._placed > 0

    async def run(self) -> Suspension:
        """Go on until the body has ended or everything in it waits; gives what the end of the turn has to write."""
        if self._replay.is_new_code:
            self._add(EntryKind.CODE, self._replay.code, detail={"at": self._moment()})
        self._begin(self._replay.open)
        if self._active_children < self._open_children():
            await self._look_for_ends()
        try:
            while True:
                self._begin(self._replay.take_fresh())
                self._let_go(self._replay.take_released())
                if not self._new:
                    await self._collect()
                if self._new:
                    await self._deliver()
                elif self._replay.ended is not None or self._steps.is_idle:
                    return self._rest()
                else:
                    await self._wait()
        finally:
            for future in self._watched.values():
                future.cancel()
            self._attempt.news = None

    # --- what the body asks for -----------------------------------------------------------------------------

    def _begin(self, pendings: Iterable[Pending]) -> None:
        for pending in pendings:
            pending.is_taken = True
            match pending.command:
                case RunStep():
                    if pending.due_at is None or pending.due_at <= self._now():
                        self._steps.start(pending)
                case Sleep() | WaitMessage():
                    self._begin_timer(pending)
                case StartChild():
                    self._begin_child(pending)
                case Send(execution_id, name, payload):
                    self._messages.append(
                        NewMessage(execution_id, MessageKind.SIGNAL, name, payload, self._id(pending))
                    )
                    self._add(EntryKind.MARK, pending.key)
                case Mark():
                    self._add(EntryKind.MARK, pending.key)

    def _begin_timer(self, pending: Pending) -> None:
        if pending.due_at is not None:
            return
        command = pending.command
        assert isinstance(command, (Sleep, WaitMessage))
        length = command.seconds if isinstance(command, Sleep) else command.timeout
        until = command.until if isinstance(command, Sleep) else None
        if length is not None:
            until = self._replay.now + timedelta(seconds=length)
        if until is not None:
            self._add(EntryKind.SLEEPING, pending.key, detail={"until": until.isoformat()})

    def _begin_child(self, pending: Pending) -> None:
        if pending.child_id is not None:
            return
        assert isinstance(pending.command, StartChild)
        claimed = self._claimed
        child = place(
            pending.command.child.new,
            execution_id=self._ids.new_id(),
            parent_id=claimed.id,
            root_id=claimed.root_id,
            index=self._placed,
            depth=claimed.depth + 1,
            is_finalize=False,
        )
        self._placed += 1
        self._active_children += 1
        self._children.append(child)
        self._add(EntryKind.CHILD, pending.key, detail={"id": child.id, "task": child.task_name})

    def _let_go(self, pendings: Iterable[Pending]) -> None:
        for pending in pendings:
            self._steps.stop(pending.key)
            if pending.child_id is not None:
                self._cancels.append(pending.child_id)

    def _id(self, pending: Pending) -> str:
        """The id of a message that a repeated checkpoint does not send again."""
        return f"{self._claimed.id}/{self._claimed.iteration}/{pending.key}"

    # --- what has happened ----------------------------------------------------------------------------------

    async def _collect(self) -> None:
        """Number what has happened since: ends of steps, a request to stop, messages, timers, ends of children."""
        try:
            for finished in self._steps.take_finished():
                self._add_finished(finished)
        except Exception as error:
            self._begin_again(error)
            raise
        if self._message_count > self._replay.seen_messages:
            await self._read_messages()
        self._collect_stop()
        for pending, number in self._replay.messages_met():
            self._add(EntryKind.SIGNAL, pending.key, detail={"number": number, "at": self._moment()})
        if self._replay.has_timers:
            self._collect_due()
        if self._watched:
            self._collect_watched()

    def _collect_due(self) -> None:
        met = {entry.key for entry in self._new}
        now = self._now()
        for pending in self._replay.open:
            if pending.due_at is None or pending.due_at > now or pending.key in met:
                continue
            if isinstance(pending.command, RunStep):
                self._steps.start(pending)
            else:
                self._add(EntryKind.SLEPT, pending.key, detail={"at": max(self._moment(), pending.due_at.isoformat())})

    def _add_finished(self, finished: Finished) -> None:
        detail = None if finished.delay is None else {"attempt": finished.attempt, "delay": finished.delay}
        kind = EntryKind.STEP if finished.delay is None else EntryKind.ATTEMPT
        self._add(kind, finished.key, finished.output, finished.error, detail)

    def _collect_stop(self) -> None:
        if self._replay.stop_kind is not None or self._replay.ended is not None:
            return
        asked = self._replay.stop_requested()
        if asked is not None:
            reason = json.loads(asked.payload).get("reason", "")
            self._add(EntryKind.CANCEL, "cancelled", detail={"reason": reason, "at": self._moment()})
        elif self._deadline is not None and self._now() >= self._deadline:
            detail = {"reason": "it took longer than its timeout", "at": self._moment()}
            self._add(EntryKind.CANCEL, "timed_out", detail=detail)

    async def _read_messages(self) -> None:
        history = await self._services.read(self._claimed.id, self._seq, self._replay.seen_messages)
        self._replay.take_messages(history.messages)
        self._message_count = self._replay.seen_messages

    def _collect_watched(self) -> None:
        for pending in self._replay.open:
            future = self._watched.get(pending.child_id or "")
            if future is not None and future.done() and not future.cancelled() and future.exception() is None:
                del self._watched[pending.child_id or ""]
                self._add_end(pending, future.result())

    async def _look_for_ends(self) -> None:
        """Of the children that the row counts as ended."""
        by_id = {pending.child_id: pending for pending in self._replay.open if pending.child_id is not None}
        for end in await self._services.ends(list(by_id)):
            self._add_end(by_id[end.id], end)

    def _add_end(self, pending: Pending, end: Any) -> None:
        detail = {"status": str(end.status), "at": self._moment()}
        self._add(EntryKind.CHILD_END, pending.key, end.output, end.error, detail)

    def _open_children(self) -> int:
        return sum(pending.child_id is not None for pending in self._replay.open)

    # --- writing --------------------------------------------------------------------------------------------

    def _add(
        self,
        kind: EntryKind,
        key: str,
        output: str | None = None,
        error: str | None = None,
        detail: dict[str, Any] | None = None,
    ) -> None:
        self._seq += 1
        if self._seq == _WARN_AT:
            _log.warning(
                "workflow %s has %d entries in its history; let it continue as new before it has 10,000",
                self._claimed.id, self._seq,
            )  # fmt: skip
        stored = None if detail is None else json.dumps(detail)
        self._new.append(NewEntry(self._seq, str(kind), key, output, error, stored))

    async def _deliver(self) -> None:
        """Write the new entries if one of them must be written, then give them to the body in their order."""
        new, self._new = self._new, []
        self._unwritten += new
        must_be_written = any(entry.kind in _MUST_BE_WRITTEN for entry in new)
        at = (await self._write()).at if must_be_written else self._now()
        for entry in new:
            self._replay.deliver(Entry(*entry, at))

    async def _write(self) -> Standing:
        checkpoint = self._checkpoint()
        try:
            standing = await self._steps.write(checkpoint) or await self._services.write(checkpoint)
        except Exception as error:
            self._begin_again(error)
            raise
        if standing is None:
            self._attempt.is_lost = True
            raise LeaseLost(self._claimed.id, self._claimed.fence)
        self._is_progress = False
        self._known = standing.at, self._clock.monotonic()
        self._message_count = max(standing.message_count, self._replay.seen_messages)
        return standing

    def _begin_again(self, error: Exception) -> None:
        """Whether a step's transaction was committed only the storage knows: give the turn back, for a new replay."""
        _log.warning("workflow %s goes on from its history: a transaction failed with %s", self._claimed.id, error)
        self._attempt.stop_reason = self._attempt.stop_reason or "shutdown"

    def _checkpoint(self) -> Checkpoint:
        values, chunks = self._take_outbox()
        checkpoint = Checkpoint(
            self._claimed.id,
            self._claimed.fence,
            tuple(self._unwritten),
            tuple(self._children),
            values,
            chunks,
            tuple(self._messages),
            tuple(self._cancels),
            self._is_progress,
        )
        self._unwritten, self._children, self._messages, self._cancels = [], [], [], []
        return checkpoint

    def _take_outbox(self) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
        values, chunks = self._outbox.take()
        if chunks:
            self._seq += 1
            count = self._replay.stored_chunk_count + len(chunks)
            entry = NewEntry(self._seq, str(EntryKind.CHUNKS), str(count), None, None, None)
            self._unwritten.append(entry)
            self._replay.deliver(Entry(*entry, self._now()))
        return values, chunks

    def _rest(self) -> Suspension:
        if self._replay.ended is None and not any(True for _ in self._replay.open):
            message = "the body waits for something that no step, timer, signal or child will bring"
            raise WorkflowStuck(ErrorInfo("stuck", message, is_retryable=False))
        checkpoint = self._checkpoint()
        return Suspension(
            *checkpoint[2:8],
            seen_messages=self._replay.seen_messages,
            wake_at_children=self._wake_at_children(),
            delay=self._delay(),
        )

    def _wake_at_children(self) -> int | None:
        """So few active ones that the body may go on: a group of them that it needs together has ended, at the most."""
        sizes: dict[Group, int] = {}
        for pending in self._replay.open:
            if isinstance(pending.command, StartChild):
                sizes[pending.command.group] = sizes.get(pending.command.group, 0) + 1
        return self._active_children - min(sizes.values()) if sizes else None

    def _delay(self) -> float | None:
        if self._deadline is None and not self._replay.has_timers:
            return None
        moments = [pending.due_at for pending in self._replay.open if pending.due_at is not None]
        if self._deadline is not None and self._replay.stop_kind is None:
            moments.append(self._deadline)
        return max(0.0, (min(moments) - self._now()).total_seconds()) if moments else None

    # --- waiting --------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        """Until a step ends, a timer fires, or there is news for this workflow."""
        if self._outbox or any(entry.kind in _SHOULD_BE_WRITTEN for entry in self._unwritten):
            await self._write()
        if self._active_children:
            self._watch_children()
        self._stirred.clear()
        if not self._has_come():
            await self._stirred_within(self._delay())
        if self._attempt.has_news:
            # Somebody has sent a message, or has ended the workflow by force: the row knows.
            self._attempt.has_news = False
            await self._write()

    async def _stirred_within(self, delay: float | None) -> None:
        if delay is None:
            await self._stirred.wait()
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._stirred.wait()

    def _has_come(self) -> bool:
        """What happened before the event was cleared does not set it again."""
        if self._attempt.has_news or self._steps.has_finished:
            return True
        return bool(self._watched) and any(future.done() for future in self._watched.values())

    def _watch_children(self) -> None:
        for pending in self._replay.open:
            if pending.child_id is not None and pending.child_id not in self._watched:
                future = self._services.watch(pending.child_id)
                future.add_done_callback(lambda _: self._stirred.set())
                self._watched[pending.child_id] = future

    def _moment(self) -> str:
        """What the body takes for now when it goes on: what the storage told last, unless that is long ago.

        So under virtual time, which stands while anything runs, a body sees that time and not some milliseconds more.
        """
        at, then = self._known
        passed = self._clock.monotonic() - then
        return (at if passed < _SHORT else at + timedelta(seconds=passed)).isoformat()

    def _now(self) -> datetime:
        """By the storage's clock: the last moment that it told, and what has passed here since."""
        at, then = self._known
        return at + timedelta(seconds=self._clock.monotonic() - then)
