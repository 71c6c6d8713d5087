"""The turn of a workflow: carry out what its body asks for, write what has come of it, and let the body go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Final

from durable.attempts import Attempt
from durable.clock import Clock
from durable.codec import Codec
from durable.errors import IdempotencyConflict, LeaseLost, SleepingIdConflict
from durable.execution import Claimed
from durable.ids import IdSource
from durable.workflow import recorded
from durable.workflow.beginning import deadline
from durable.workflow.compare import digest_detail
from durable.workflow.draft import Draft
from durable.workflow.entries import STUCK, EntryKind, Mark, RunStep, Send, Sleep, Start, StartChild, WaitMessage
from durable.workflow.family import Family
from durable.workflow.fanout import MapChildren
from durable.workflow.moments import Moments
from durable.workflow.pending import Pending
from durable.workflow.replay import Replay
from durable.workflow.services import WorkflowServices
from durable.workflow.steps import Finished, NotCommitted, StepRuns
from durable.workflow.watching import is_refused_by, without_start
from durable.workflow_rows import Checkpoint, Entry, MessageKind, NewEntry, NewMessage, Standing, Suspension

__all__ = ["WorkflowTurn"]

_log = logging.getLogger("durable")
_WARN_AT: Final = 1000
_MUST_BE_WRITTEN: Final = frozenset(
    {EntryKind.STEP, EntryKind.ATTEMPT, EntryKind.STARTED, EntryKind.PAGE, EntryKind.FAILED}
)
"""Before the body hears of them: it may act on them outside. Pages, because many of them would be too much at once."""
_TURNS: Final = frozenset({EntryKind.CANCEL, EntryKind.FAILED})
_SHOULD_BE_WRITTEN: Final = frozenset({EntryKind.SLEEPING, EntryKind.CHILD, EntryKind.WAVE, EntryKind.MARK})
"""Before the turn waits for something else: a crash would begin a sleep anew, and a child would start late."""


class WorkflowTurn:
    """From the claim to the end of a turn. Entries are numbered, written and delivered in one and the same order."""

    _has_failures = False
    """Children may have failed of which the body has not heard."""
    _has_ended = False

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
        stirred: asyncio.Event,
    ) -> None:
        """`stirred` is set when something has ended, or has come, that the turn may wait for."""
        self._attempt = attempt
        self._claimed: Claimed = attempt.claimed
        self._replay = replay
        self._services = services
        self._steps = steps
        self._outbox = replay.outbox
        self._codec = codec
        self._held: list[Pending] = []
        """Steps that begin when those that were stopped have ended."""
        self._ids = ids
        self._clock = clock
        self._time = Moments(clock, claimed_at)
        self._deadline = deadline(attempt.claimed, replay.started_at)
        self._message_count = attempt.claimed.message_count
        self._draft = Draft(replay.seq, is_progress=attempt.claimed.deliveries > 1)
        self._is_careful = attempt.claimed.error is not None
        """The turn before was lost, or refused by the storage: no step is run once more only to be refused again."""
        self._has_limits = self._is_careful or self._deadline is not None
        """It is not to go on without a look at them."""
        self._is_short = replay.seq < _WARN_AT or self._length < _WARN_AT
        """Nobody was warned yet of a history that grows long."""
        self._corrected: dict[int, NewEntry] = {}
        """Entries that were written as something else than they were numbered as, by seq."""
        self._stirred = stirred
        self._family = Family(
            attempt.claimed, replay, services, self._draft, self._time, self._stirred.set, codec=codec, ids=ids
        )
        attempt.on_news = stirred.set

    @property
    def has_had_children(self) -> bool:
        return self._family.has_had_any

    @property
    def _length(self) -> int:
        """Of the history, as its limit counts."""
        return self._draft.seq - self._replay.attempt_count

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
            self._family.close()
            self._attempt.on_news = None
            self._attempt.emit = None
            self._has_ended = True

    async def _go_on(self) -> Suspension:
        replay, draft, commands = self._replay, self._draft, self._replay.commands
        if replay.codes.is_new:
            # The body has begun with that moment, and so will every replay.
            at = self._time.shown() if replay.seq else replay.now
            draft.add(EntryKind.CODE, replay.codes.code, detail=recorded.of_code(at, replay.seed))
            # At once: what new code begins now begins at that moment, and not at that of the last entry.
            await self._deliver()
        if self._is_undisturbed():
            self._begin(replay.open)
        else:
            await self._begin_all(replay.open)
        await self._family.look_at_first()
        while True:
            # Before it looks: what comes from now on is news to whoever waits afterwards.
            self._stirred.clear()
            if commands.are_let_go:
                self._let_go()
            fresh = commands.take_fresh()
            if self._held:
                fresh = [*self._take_held(), *fresh]
            if fresh:
                if self._is_undisturbed():
                    self._begin(fresh)
                elif await self._begin_all(fresh):
                    continue  # the body has gone on, and may have asked for more
            if draft.new:
                await self._deliver()
            elif replay.ended is None and await self._collect():
                pass  # the body has gone on, and may have asked for more
            elif self._is_over():
                if self._draft.is_risky:
                    await self._write()
                elif self._is_stuck():
                    self._draft.add(EntryKind.CANCEL, STUCK, detail=recorded.of_stuck(self._time.shown()))
                else:
                    return self._rest()
            else:
                await self._wait()

    def _is_undisturbed(self) -> bool:
        """Nothing stops the body or has failed in it, and no message waits: as most workflows at most moments."""
        if self._has_limits or self._draft.new or self._replay.failed is not None:
            return False
        seen = self._replay.inbox.seen
        return self._message_count <= seen and (not seen or self._replay.inbox.is_empty)

    async def _begin_all(self, fresh: list[Pending]) -> bool:
        """True: the body was given something first, and has gone on."""
        await self._read_messages()
        self._collect_stop()
        if fresh:
            self._collect_failed()
        is_told = bool(self._draft.new) and self._draft.new[-1].kind in _TURNS
        if is_told:
            # Before anything else of it begins: a step would be started only to be stopped.
            await self._deliver()
            fresh = [pending for pending in fresh if pending.is_open]
        if self._is_careful and self._draft.entries and any(isinstance(each.command, RunStep) for each in fresh):
            await self._write()
        self._begin(fresh)
        return is_told

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
                case StartChild() as command:
                    self._family.begin(pending, command)
                case MapChildren():
                    pass  # begins when it is asked for its next wave
                case Start(new):
                    id_ = self._ids.new_id()
                    self._draft.starts.append(new._replace(id=id_, root_id=id_))
                    detail = {"id": id_, "task": new.task_name, **digest_detail(pending.digest)}
                    self._draft.add(EntryKind.STARTED, pending.key, detail=detail)
                case Send(execution_id, name, payload):
                    self._draft.messages.append(
                        NewMessage(execution_id, MessageKind.SIGNAL, name, payload, self._id(pending))
                    )
                    self._draft.add(EntryKind.MARK, pending.key, detail=digest_detail(pending.digest))
                case Mark():
                    self._draft.add(EntryKind.MARK, pending.key)

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
        # The history of a fork may be much older than it is.
        detail = recorded.of_timer(pending, max(self._replay.now, self._claimed.created_at))
        if pending.due_at is None and detail is not None:
            self._draft.add(EntryKind.SLEEPING, pending.key, detail=detail)

    def _let_go(self) -> None:
        for pending in self._replay.commands.take_released():
            self._steps.stop(pending.key)
            if isinstance(pending.command, MapChildren):
                self._family.drop(pending.command)
        self._family.let_go(self._replay.commands.take_abandoned())

    def _id(self, pending: Pending) -> str:
        """The id of a message that a repeated checkpoint does not send again."""
        return f"{self._claimed.id}/{self._claimed.iteration}/{pending.key}"

    # --- what has happened ----------------------------------------------------------------------------------

    async def _collect(self) -> bool:
        """Give the body what has happened since: ends of steps, a request to stop, messages, timers, ends of children.

        One kind of it after the other, because what comes first may end the body: what it has not heard then is not
        met, and is there for its next run if it continues as new. False: there was nothing.
        """
        draft = self._draft
        if self._attempt.has_news or draft.is_risky:
            # Somebody has sent a message, or has ended the workflow by force: the row knows. A child that may be
            # refused is written before a step ends whose transaction it would take with it.
            self._attempt.has_news = False
            await self._write()
        if self._message_count > self._replay.inbox.seen:
            await self._read_messages()
        has_failures, self._has_failures = self._has_failures, False
        # From here on nothing is waited for: what ends meanwhile ends after this.
        for finished in self._steps.take_finished():
            self._add_finished(finished)
        is_news = bool(draft.new)
        if is_news:
            await self._deliver()
            if self._is_undisturbed() and not (self._family.is_concerned or self._replay.has_timers):
                return True  # there is nothing else that could have come
        if self._replay.ended is None:
            self._collect_stop()
            if self._draft.new:
                is_news = True
                await self._deliver()
        is_news |= self._deliver_messages()
        if self._replay.ended is None:
            await self._collect_ends(has_failures=has_failures)
            if not (is_news or self._draft.new):
                self._collect_update()
            if self._draft.new:
                is_news = True
                await self._deliver()
        return is_news

    def _deliver_messages(self) -> bool:
        """One after the other: the body may give up a wait because of what it hears. None need be written first."""
        is_news = False
        for pending, number in self._replay.messages_met():
            is_news = True
            detail = {"number": number, "at": recorded.latest(self._time.shown()), **digest_detail(pending.digest)}
            self._draft.add(EntryKind.SIGNAL, pending.key, detail=detail)
            (entry,) = self._draft.take_new()
            self._replay.deliver(Entry(*entry, self._time.now()))
        return is_news

    async def _collect_ends(self, *, has_failures: bool) -> None:
        """Of timers and of children, which nobody hears of if the body ends before them."""
        if self._replay.has_timers:
            self._collect_due()
        await self._family.collect(has_failures=has_failures)

    def _collect_due(self) -> None:
        met = {entry.key for entry in self._draft.new}
        now = self._time.now()
        for pending in self._replay.open:
            if pending.due_at is None or pending.due_at > now or pending.key in met:
                continue
            if isinstance(pending.command, RunStep):
                self._start_step(pending)
            else:
                self._draft.add(
                    EntryKind.SLEPT, pending.key, detail={"at": recorded.latest(self._time.shown(), pending.due_at)}
                )

    def _collect_update(self) -> None:
        """One at a time and alone: its validator sees what came of all that was before."""
        message, updates = self._replay.next_update(), self._replay.updates
        if message is None or updates is None:
            return
        refused = updates.judge(message)
        detail = recorded.of_update(message, own=self._replay.own, at=self._time.shown())
        # With its arguments, so that the history tells all by itself.
        output = message.payload if refused is None else None
        self._draft.add(EntryKind.UPDATE, f"update:{message.name}#{message.number}", output, refused, detail)

    def _add_finished(self, finished: Finished) -> None:
        draft = self._draft
        draft.seq += 1
        draft.new.append(recorded.of_step(draft.seq, finished, self._time))
        if finished.delay is not None:
            draft.superseded += self._superseded_by(finished)

    def _superseded_by(self, finished: Finished) -> list[int]:
        """The last failure of a step alone is kept: a history must not grow with attempts."""
        pending = self._replay.commands.get(finished.key)
        if finished.delay is None or pending is None or pending.attempt_seq is None:
            return []
        return [pending.attempt_seq]

    def _collect_failed(self) -> None:
        """Before the first thing is undone, so that no later code takes the workflow for one that goes on."""
        failed = self._replay.failed
        if failed is None or self._replay.is_told_failed or self._replay.ended is not None:
            return
        error = self._codec.dump_error(failed.error, is_retryable=False)
        self._draft.add(EntryKind.FAILED, "body", None, error, recorded.of_failed(failed, at=self._time.shown()))

    def _collect_stop(self) -> None:
        if not self._replay.can_be_stopped:
            return
        asked = self._replay.inbox.stop_request()
        if asked is not None:
            detail = recorded.of_request(asked, own=self._replay.own, at=self._time.shown())
            self._draft.add(EntryKind.CANCEL, "cancelled", detail=detail)
        elif self._deadline is not None and self._replay.can_time_out and self._time.now() >= self._deadline:
            detail = {"reason": "it took longer than its timeout", "at": recorded.latest(self._time.shown())}
            self._draft.add(EntryKind.CANCEL, "timed_out", detail=detail)

    async def _read_messages(self) -> None:
        """If there are any that were not read. Children that failed count as messages that are not there."""
        known, inbox = self._message_count, self._replay.inbox
        before = inbox.seen
        if known > before:
            history = await self._services.read(self._claimed.id, self._draft.seq, before)
            inbox.take(history.messages, known=known)
            self._has_failures |= known - before > sum(1 for message in history.messages if message.number <= known)

    # --- writing --------------------------------------------------------------------------------------------

    async def _deliver(self) -> None:
        """Write the new entries if one of them must be written, then give them to the body in their order."""
        new = self._draft.take_new()
        at = None
        for entry in new:
            if entry.kind in _MUST_BE_WRITTEN:
                at = (await self._write()).at
                break
        if self._corrected:
            new = [self._corrected.pop(entry.seq, entry) for entry in new]
        at = at or self._time.now()
        if len(new) == 1:
            self._replay.deliver(Entry(*new[0], at))
        else:
            self._replay.deliver_all([Entry(*entry, at) for entry in new])

    async def _write(self) -> Standing:
        checkpoint = self._checkpoint()
        if self._steps.has_opened or checkpoint.children or checkpoint.starts:
            standing = await self._written(checkpoint)
        else:
            standing = await self._services.write(checkpoint)  # of which the storage refuses nothing
        if standing is None:
            self._attempt.is_lost = True
            raise LeaseLost(self._claimed.id, self._claimed.fence)
        self._draft.is_progress = False
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
            self._corrected[seq] = recorded.of_step(seq, finished, self._time)
            entries = tuple(self._corrected.get(entry.seq, entry) for entry in checkpoint.entries)
            superseded = (*checkpoint.superseded, *self._superseded_by(finished))
            return await self._written(checkpoint._replace(entries=entries, superseded=superseded))
        except (IdempotencyConflict, SleepingIdConflict) as conflict:
            left, corrected = without_start(checkpoint, conflict)
            if corrected is not None:
                self._corrected[corrected.seq] = corrected
                return await self._written(left)
            taken = next((child for child in checkpoint.children if is_refused_by(conflict, child)), None)
            if taken is None:
                raise
            self._family.refuse(taken.id, conflict)
            self._stirred.set()
            others = tuple(child for child in checkpoint.children if child is not taken)
            return await self._written(checkpoint._replace(children=others))

    def _checkpoint(self) -> Checkpoint:
        spoken, outbox = self._replay.spoken, self._outbox
        values: tuple[tuple[str, str], ...] = ()
        chunks: tuple[str, ...] = ()
        if outbox.values or outbox.chunks or spoken.piece_count or spoken.count > spoken.stored:
            values, chunks = self._take_outbox()
        if self._draft.seq >= _WARN_AT and self._length >= _WARN_AT:
            self._warn_of_length()
        return self._draft.take(self._claimed, values, chunks)

    def _warn_of_length(self) -> None:
        """Once in a turn, and not in those that begin beyond it."""
        if not self._is_short:
            return
        self._is_short = False
        _log.warning(
            "workflow %s has %d entries in its history; let it continue as new before it has 10,000",
            self._claimed.id, self._length,
        )  # fmt: skip

    def _take_outbox(self) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
        spoken = self._replay.spoken
        values, chunks = self._outbox.take()
        spoken.piece_count += len(chunks)
        # Pieces of a step that go on for long are told of together: a history must not grow by an entry for each.
        if spoken.count > spoken.stored or (spoken.piece_count and self._draft.entries):
            self._draft.seq += 1
            detail = spoken.detail(self._replay.heard, spoken.piece_count)
            spoken.piece_count = 0
            entry = NewEntry(self._draft.seq, str(EntryKind.SAID), str(spoken.count), None, None, detail)
            self._draft.entries.append(entry)
            self._replay.deliver(Entry(*entry, self._time.now()))
        return values, chunks

    def _rest(self) -> Suspension:
        checkpoint = self._checkpoint()
        if self._replay.ended is not None and self._replay.ended.error is None:
            # Nothing is to wake it.
            return Suspension(*checkpoint[2:8], starts=checkpoint.starts)
        return Suspension(
            *checkpoint[2:8],
            seen_messages=self._replay.inbox.seen,
            wake_at_children=self._family.wake_at,
            delay=self._delay(),
            starts=checkpoint.starts,
        )

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
        if (
            self._outbox
            or self._draft.cancels
            or any(entry.kind in _SHOULD_BE_WRITTEN for entry in self._draft.entries)
        ):
            await self._write()
        self._family.watch()
        delay = self._delay()
        if delay is None:
            await self._stirred.wait()
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._stirred.wait()
