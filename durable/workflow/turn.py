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
from durable.codec import Codec
from durable.errors import DurableError, IdempotencyConflict, LeaseLost, SleepingIdConflict
from durable.execution import Claimed, NewExecution
from durable.ids import IdSource
from durable.workflow.beginning import deadline
from durable.workflow.compare import digest_detail
from durable.workflow.entries import STUCK, EntryKind, Group, Mark, RunStep, Send, Sleep, Start, StartChild, WaitMessage
from durable.workflow.fanout import MapChildren
from durable.workflow.maps import Maps
from durable.workflow.moments import Moments
from durable.workflow.pending import Pending
from durable.workflow.recorded import latest, of_request, of_step, of_stuck, of_update
from durable.workflow.replay import Replay
from durable.workflow.services import WorkflowServices
from durable.workflow.steps import Finished, NotCommitted, StepRuns
from durable.workflow.watching import Watched, end_of_refused, is_refused_by, may_be_refused, without_start
from durable.workflow_rows import Checkpoint, Entry, MessageKind, NewEntry, NewMessage, Standing, Suspension

__all__ = ["WorkflowTurn"]

_log = logging.getLogger("durable")
_WARN_AT: Final = 1000
_MUST_BE_WRITTEN: Final = frozenset({EntryKind.STEP, EntryKind.ATTEMPT, EntryKind.STARTED, EntryKind.PAGE})
"""Before the body hears of them: it may act on them outside. Pages, because many of them would be too much at once."""
_SHOULD_BE_WRITTEN: Final = frozenset({EntryKind.SLEEPING, EntryKind.CHILD, EntryKind.WAVE, EntryKind.MARK})
"""Before the turn waits for something else: a crash would begin a sleep anew, and a child would start late."""


class WorkflowTurn:
    """From the claim to the end of a turn. Entries are numbered, written and delivered in one and the same order."""

    def __init__(
        self,
        attempt: Attempt,
        replay: Replay,
        services: WorkflowServices,
        steps: StepRuns,
        *,
        codec: Codec,
        clock: Clock,
        ids: IdSource,
        claimed_at: datetime,
    ) -> None:
        self._attempt = attempt
        self._claimed: Claimed = attempt.claimed
        self._replay = replay
        self._services = services
        self._steps = steps
        self._outbox = replay.outbox
        self._maps = Maps(attempt.claimed, services, codec, ids)
        self._dropped_maps: list[MapChildren] = []
        self._held: list[Pending] = []
        """Steps that begin when those that were stopped have ended."""
        self._ids = ids
        self._clock = clock
        self._time = Moments(clock, claimed_at)
        self._deadline = deadline(attempt.claimed, replay.started_at)
        self._message_count = attempt.claimed.message_count
        self._active_children = attempt.claimed.active_children_count
        self._placed = attempt.claimed.children_count
        self._is_progress = attempt.claimed.deliveries > 1
        self._is_careful = attempt.claimed.error is not None
        """The turn before was lost, or refused by the storage: no step is run once more only to be refused again."""
        self._seq = replay.seq
        self._is_short = replay.seq < _WARN_AT
        """Nobody was warned yet of a history that grows long."""
        self._new: list[NewEntry] = []
        """Numbered, and not yet delivered."""
        self._unwritten: list[NewEntry] = []
        self._children: list[NewExecution] = []
        self._starts: list[NewExecution] = []
        self._messages: list[NewMessage] = []
        self._cancels: list[str] = []
        self._refused: list[tuple[str, DurableError]] = []
        """Children that cannot be, by id."""
        self._corrected: dict[int, NewEntry] = {}
        """Entries that were written as something else than they were numbered as, by seq."""
        self._stirred = asyncio.Event()
        self._watched = Watched(services.watch, self._stirred.set)
        self._has_ended = False
        steps.on_end = self._stirred.set
        attempt.on_news = self._stirred.set

    @property
    def has_had_children(self) -> bool:
        return self._placed > 0

    async def run(self) -> Suspension:
        """Go on until the body has ended or everything in it waits; gives what the end of the turn has to write."""
        try:
            return await self._go_on()
        except Exception as error:
            if self._services.is_transient(error):
                # Whether a step's transaction was committed only the storage knows: begin again from what it has.
                _log.warning("workflow %s goes on from its history: the storage failed: %s", self._claimed.id, error)
                self._attempt.stop_reason = self._attempt.stop_reason or "shutdown"
            raise
        finally:
            self._watched.close()
            self._attempt.on_news = None
            self._attempt.emit = None
            self._has_ended = True

    async def _go_on(self) -> Suspension:
        if self._replay.codes.is_new:
            # The body has begun with that moment, and so will every replay.
            at = self._time.shown() if self._replay.seq else self._replay.now
            self._add(EntryKind.CODE, self._replay.codes.code, detail={"at": latest(at), "seed": self._replay.seed})
        await self._begin_all(self._replay.open)
        if self._active_children < self._placed and self._open_children():
            await self._look_for_ends()
        while True:
            # Before it looks: what comes from now on is news to whoever waits afterwards.
            self._stirred.clear()
            self._let_go()
            fresh = [*self._take_held(), *self._replay.commands.take_fresh()]
            if fresh:
                await self._begin_all(fresh)
            if self._new:
                await self._deliver()
            elif self._replay.ended is None and await self._collect():
                pass  # the body has gone on, and may have asked for more
            elif self._is_over():
                if self._has_risky_children():
                    await self._write()
                elif self._is_stuck():
                    self._add(EntryKind.CANCEL, STUCK, detail=of_stuck(self._time.shown()))
                else:
                    return self._rest()
            else:
                await self._wait()

    async def _begin_all(self, fresh: list[Pending]) -> None:
        self._collect_stop()
        if self._new and self._new[-1].kind == EntryKind.CANCEL:
            # Before anything else of it begins: a step would be started only to be stopped.
            await self._deliver()
            fresh = [pending for pending in fresh if pending.is_open]
        if self._is_careful and self._unwritten and any(isinstance(each.command, RunStep) for each in fresh):
            await self._write()
        self._begin(fresh)

    def _is_over(self) -> bool:
        if self._replay.ended is not None:
            return True
        # A body that was stopped may be about to undo what its steps still do.
        is_stopping = bool(self._held) or (self._replay.stop_kind is not None and self._steps.are_ending)
        return self._steps.is_idle and not is_stopping

    def _is_stuck(self) -> bool:
        """Nothing will ever let the body go on."""
        return self._replay.ended is None and not self._replay.hears_updates and not self._replay.open

    def _take_held(self) -> list[Pending]:
        if not self._held or self._steps.are_ending:
            return []
        held, self._held = self._held, []
        return [pending for pending in held if pending.is_open]

    def stream(self, chunk: str) -> None:
        """A piece that a step has emitted; it goes out with the next checkpoint, which is now."""
        if not self._has_ended:
            self._outbox.chunks.append(chunk)
            self._stirred.set()

    # --- what the body asks for -----------------------------------------------------------------------------

    def _begin(self, pendings: Iterable[Pending]) -> None:
        for pending in pendings:
            pending.is_taken = True
            if self._replay.ended is not None and not isinstance(pending.command, (Mark, Send)):
                continue  # a task that the body did not wait for: nobody will hear of it
            match pending.command:
                case RunStep():
                    if pending.due_at is None or pending.due_at <= self._time.now():
                        self._start_step(pending)
                case Sleep() | WaitMessage():
                    self._begin_timer(pending)
                case StartChild():
                    self._begin_child(pending)
                case MapChildren():
                    pass  # begins when it is asked for its next wave
                case Start(new):
                    id_ = self._ids.new_id()
                    self._starts.append(new._replace(id=id_, root_id=id_))
                    detail = {"id": id_, "task": new.task_name, **digest_detail(pending.digest)}
                    self._add(EntryKind.STARTED, pending.key, detail=detail)
                case Send(execution_id, name, payload):
                    self._messages.append(
                        NewMessage(execution_id, MessageKind.SIGNAL, name, payload, self._id(pending))
                    )
                    self._add(EntryKind.MARK, pending.key, detail=digest_detail(pending.digest))
                case Mark():
                    self._add(EntryKind.MARK, pending.key)

    def _start_step(self, pending: Pending) -> None:
        if self._replay.is_unwinding and self._steps.are_ending:
            if pending not in self._held:
                self._held.append(pending)  # it may undo what a stopped step is still doing
            return
        now = self._clock.monotonic()
        if now >= self._attempt.deadline:
            # The process was away for so long that the step may be another's by now.
            self._attempt.is_lost = True
            raise LeaseLost(self._claimed.id, self._claimed.fence)
        age = 0.0 if pending.first_at is None else (self._time.now() - pending.first_at).total_seconds()
        self._steps.start(pending, began=now - age)

    def _begin_timer(self, pending: Pending) -> None:
        if pending.due_at is not None:
            return
        command = pending.command
        assert isinstance(command, (Sleep, WaitMessage))
        length = command.seconds if isinstance(command, Sleep) else command.timeout
        until = command.until
        if length is not None:
            until = self._replay.now + timedelta(seconds=length)
        if until is not None:
            detail = {"until": until.isoformat(), **digest_detail(pending.digest)}
            self._add(EntryKind.SLEEPING, pending.key, detail=detail)

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
        detail = {"id": child.id, "task": child.task_name, "of": claimed.id}
        self._add(EntryKind.CHILD, pending.key, detail=detail | digest_detail(pending.digest))

    def _let_go(self) -> None:
        for pending in self._replay.commands.take_released():
            self._steps.stop(pending.key)
            if isinstance(pending.command, MapChildren):
                self._dropped_maps.append(pending.command)
        abandoned = self._replay.commands.take_abandoned()
        # In a replay they are those of all times, cancelled long ago, unless the turn that let go of one crashed.
        if abandoned and self._active_children > self._open_children():
            self._cancels += abandoned

    def _id(self, pending: Pending) -> str:
        """The id of a message that a repeated checkpoint does not send again."""
        return f"{self._claimed.id}/{self._claimed.iteration}/{pending.key}"

    # --- what has happened ----------------------------------------------------------------------------------

    async def _collect(self) -> bool:
        """Give the body what has happened since: ends of steps, a request to stop, messages, timers, ends of children.

        One kind of it after the other, because what comes first may end the body: what it has not heard then is not
        met, and is there for its next run if it continues as new. False: there was nothing.
        """
        if self._attempt.has_news or self._has_risky_children():
            # Somebody has sent a message, or has ended the workflow by force: the row knows. A child that may be
            # refused is written before a step ends whose transaction it would take with it.
            self._attempt.has_news = False
            await self._write()
        has_failures = self._message_count > self._replay.inbox.seen and await self._read_messages()
        # From here on nothing is waited for: what ends meanwhile ends after this.
        for finished in self._steps.take_finished():
            self._add_finished(finished)
        is_news = bool(self._new)
        if is_news:
            await self._deliver()
        if self._replay.ended is None:
            self._collect_stop()
            if self._new:
                is_news = True
                await self._deliver()
        if self._replay.ended is None and not self._replay.inbox.is_empty:
            is_news |= self._deliver_messages()
        if self._replay.ended is None:
            await self._collect_ends(has_failures=has_failures)
            if not (is_news or self._new):
                self._collect_update()
            if self._new:
                is_news = True
                await self._deliver()
        return is_news

    def _deliver_messages(self) -> bool:
        """Nothing of it need be written first, so that what the body does not hear, having ended, leaves no entry."""
        for pending, number in self._replay.messages_met():
            detail = {"number": number, "at": latest(self._time.shown()), **digest_detail(pending.digest)}
            self._add(EntryKind.SIGNAL, pending.key, detail=detail)
        new, self._new = self._new, []
        if not new:
            return False
        heard = self._replay.deliver_all((Entry(*entry, self._time.now()) for entry in new), until_end=True)
        self._seq -= len(new) - heard
        self._unwritten += new[:heard]
        return True

    async def _collect_ends(self, *, has_failures: bool) -> None:
        """Of timers and of children, which nobody hears of if the body ends before them."""
        if self._replay.has_timers:
            self._collect_due()
        if self._watched:
            self._collect_watched()
        if self._refused:
            self._collect_refused()
        if has_failures:
            # They were active when this turn counted, and so need not be awaited once more.
            self._active_children -= await self._look_for_ends()
        if self._replay.commands.has_maps:
            await self._collect_maps(is_news=has_failures)

    def _collect_due(self) -> None:
        met = {entry.key for entry in self._new}
        now = self._time.now()
        for pending in self._replay.open:
            if pending.due_at is None or pending.due_at > now or pending.key in met:
                continue
            if isinstance(pending.command, RunStep):
                self._start_step(pending)
            else:
                self._add(EntryKind.SLEPT, pending.key, detail={"at": latest(self._time.shown(), pending.due_at)})

    def _collect_update(self) -> None:
        """One at a time and alone: its validator sees what came of all that was before."""
        message, updates = self._replay.next_update(), self._replay.updates
        if message is None or updates is None:
            return
        refused = updates.judge(message)
        detail = of_update(message, own=self._replay.own, at=self._time.shown())
        # With its arguments, so that the history tells all by itself.
        output = message.payload if refused is None else None
        self._add(EntryKind.UPDATE, f"update:{message.name}#{message.number}", output, refused, detail)

    def _add_finished(self, finished: Finished) -> None:
        self._seq += 1
        self._new.append(of_step(self._seq, finished, self._time))

    def _collect_stop(self) -> None:
        if not self._replay.can_be_stopped:
            return
        asked = self._replay.inbox.stop_request()
        if asked is not None:
            detail = of_request(asked, own=self._replay.own, at=self._time.shown())
            self._add(EntryKind.CANCEL, "cancelled", detail=detail)
        elif self._deadline is not None and self._replay.can_time_out and self._time.now() >= self._deadline:
            detail = {"reason": "it took longer than its timeout", "at": latest(self._time.shown())}
            self._add(EntryKind.CANCEL, "timed_out", detail=detail)

    async def _read_messages(self) -> bool:
        """True if children may have failed, which count as messages that are not there."""
        known, inbox = self._message_count, self._replay.inbox
        before = inbox.seen
        history = await self._services.read(self._claimed.id, self._seq, before)
        inbox.take(history.messages, known=known)
        return known - before > sum(1 for message in history.messages if message.number <= known)

    def _collect_watched(self) -> None:
        for pending in self._replay.open:
            end = self._watched.take_end(pending.child_id)
            if end is not None:
                # It was active when this turn counted, and so need not be awaited once more.
                self._active_children -= 1
                self._add_end(pending, end)

    def _collect_refused(self) -> None:
        refused, self._refused = self._refused, []
        by_id = {pending.child_id: pending for pending in self._replay.open if pending.child_id is not None}
        for child_id, error in refused:
            self._active_children -= 1
            if child_id in by_id:
                self._add_end(by_id[child_id], end_of_refused(child_id, error))

    async def _collect_maps(self, *, is_news: bool) -> None:
        """The next thing that each map writes; children of maps that the body has given up are cancelled."""
        for command in self._dropped_maps:
            self._cancels += await self._maps.open_ids(command)
        self._dropped_maps = []
        for pending in self._replay.open:
            if isinstance(pending.command, MapChildren):
                await self._collect_map(pending, pending.command, is_news=is_news)

    async def _collect_map(self, pending: Pending, command: MapChildren, *, is_news: bool) -> None:
        is_news |= self._watched.take_news(command.watched_id)
        step = await self._maps.next(command, is_news=is_news, first_index=self._placed)
        if step is None:
            return
        self._placed += len(step.children)
        self._active_children += len(step.children)
        self._children += step.children
        self._cancels += step.cancels
        self._add(step.kind, pending.key, step.output, None, {**(step.detail or {}), "at": latest(self._time.shown())})

    async def _look_for_ends(self) -> int:
        """Of the children that the row counts as ended; gives of how many."""
        told = {entry.key for entry in self._new}
        by_id = {
            pending.child_id: pending
            for pending in self._replay.open
            if pending.child_id is not None and pending.key not in told
        }
        ends = await self._services.ends(list(by_id))
        for end in ends:
            self._add_end(by_id[end.id], end)
        return len(ends)

    def _add_end(self, pending: Pending, end: Any) -> None:
        detail = {"id": end.id, "status": str(end.status), "at": latest(self._time.shown())}
        self._add(EntryKind.CHILD_END, pending.key, end.output, end.error, detail)

    def _open_children(self) -> int:
        return sum(
            pending.command.open_count if isinstance(pending.command, MapChildren) else pending.child_id is not None
            for pending in self._replay.open
        )

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
        stored = None if detail is None else json.dumps(detail)
        self._new.append(NewEntry(self._seq, str(kind), key, output, error, stored))

    async def _deliver(self) -> None:
        """Write the new entries if one of them must be written, then give them to the body in their order."""
        new, self._new = self._new, []
        self._unwritten += new
        at = None
        for entry in new:
            if entry.kind in _MUST_BE_WRITTEN:
                at = (await self._write()).at
                break
        if self._corrected:
            new = [self._corrected.pop(entry.seq, entry) for entry in new]
        at = at or self._time.now()
        self._replay.deliver_all([Entry(*entry, at) for entry in new])

    async def _write(self) -> Standing:
        standing = await self._written(self._checkpoint())
        if standing is None:
            self._attempt.is_lost = True
            raise LeaseLost(self._claimed.id, self._claimed.fence)
        self._is_progress = False
        self._time.tell(standing.now)
        self._message_count = standing.message_count
        return standing

    async def _written(self, checkpoint: Checkpoint) -> Standing | None:
        """Write it, without what the storage refuses for good, of which the body is to hear."""
        try:
            standing = await self._steps.write(checkpoint) if self._steps.has_opened else None
            return standing or await self._services.write(checkpoint)
        except NotCommitted as refused:
            finished = refused.finished
            seq = next(each.seq for each in checkpoint.entries if (each.kind, each.key) == ("step", finished.key))
            self._corrected[seq] = of_step(seq, finished, self._time)
            entries = tuple(self._corrected.get(entry.seq, entry) for entry in checkpoint.entries)
            return await self._written(checkpoint._replace(entries=entries))
        except (IdempotencyConflict, SleepingIdConflict) as conflict:
            left, corrected = without_start(checkpoint, conflict)
            if corrected is not None:
                self._corrected[corrected.seq] = corrected
                return await self._written(left)
            taken = next((child for child in checkpoint.children if is_refused_by(conflict, child)), None)
            if taken is None:
                raise
            self._refused.append((taken.id, conflict))
            self._stirred.set()
            others = tuple(child for child in checkpoint.children if child is not taken)
            return await self._written(checkpoint._replace(children=others))

    def _has_risky_children(self) -> bool:
        """Some may be refused, of which the body is to hear; the end of a turn has no way to tell it."""
        return bool(self._children) and any(map(may_be_refused, self._children))

    def _checkpoint(self) -> Checkpoint:
        values, chunks = self._take_outbox()
        if self._seq >= _WARN_AT:
            self._warn_of_length()
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
            tuple(self._starts),
        )
        self._unwritten, self._children, self._messages, self._cancels, self._starts = [], [], [], [], []
        return checkpoint

    def _warn_of_length(self) -> None:
        """Once in a turn, and not in those that begin beyond it."""
        if not self._is_short:
            return
        self._is_short = False
        _log.warning(
            "workflow %s has %d entries in its history; let it continue as new before it has 10,000",
            self._claimed.id, self._seq,
        )  # fmt: skip

    def _take_outbox(self) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
        spoken = self._replay.spoken
        if not (self._outbox or spoken.piece_count or spoken.count > spoken.stored):
            return (), ()  # as most of the time
        values, chunks = self._outbox.take()
        spoken.piece_count += len(chunks)
        # Pieces of a step that go on for long are told of together: a history must not grow by an entry for each.
        if spoken.count > spoken.stored or (spoken.piece_count and self._unwritten):
            self._seq += 1
            detail = spoken.detail(self._replay.heard, spoken.piece_count)
            spoken.piece_count = 0
            entry = NewEntry(self._seq, str(EntryKind.SAID), str(spoken.count), None, None, detail)
            self._unwritten.append(entry)
            self._replay.deliver(Entry(*entry, self._time.now()))
        return values, chunks

    def _rest(self) -> Suspension:
        checkpoint = self._checkpoint()
        return Suspension(
            *checkpoint[2:8],
            seen_messages=self._replay.inbox.seen,
            wake_at_children=self._wake_at_children(),
            delay=self._delay(),
            starts=checkpoint.starts,
        )

    def _wake_at_children(self) -> int | None:
        """So few active ones that the body may go on: a group of them that it needs together has ended, at the most."""
        sizes: dict[Group, int] = {}
        for pending in self._replay.open:
            if isinstance(pending.command, StartChild):
                sizes[pending.command.group] = sizes.get(pending.command.group, 0) + 1
        needed = [*sizes.values(), *(command.ends_needed for command in self._open_maps if command.open_count)]
        return self._active_children - min(needed) if needed else None

    @property
    def _open_maps(self) -> list[MapChildren]:
        return [pending.command for pending in self._replay.open if isinstance(pending.command, MapChildren)]

    def _delay(self) -> float | None:
        if self._deadline is None and not self._replay.has_timers:
            return None
        moments = [pending.due_at for pending in self._replay.open if pending.due_at is not None]
        if self._deadline is not None and self._replay.can_time_out:
            moments.append(self._deadline)
        return self._time.until(min(moments)) if moments else None

    # --- waiting --------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        """Until a step ends, a timer fires, or there is news for this workflow."""
        # Children that were let go of would else run on for as long as what it waits for takes.
        if self._outbox or self._cancels or any(entry.kind in _SHOULD_BE_WRITTEN for entry in self._unwritten):
            await self._write()
        if self._active_children:
            self._watched.begin(self._replay.open)
        delay = self._delay()
        if delay is None:
            await self._stirred.wait()
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._stirred.wait()
