"""The executor: builds the rooms, runs them, and takes them down again. No SQL, and no decision about any execution."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any

from durable.attempts import Attempt, Holdings, Signal
from durable.clock import Clock
from durable.collector import Collector
from durable.execution import FINISHED, Claimed, FinishedExecution, Kind, Settled, Settlement
from durable.execution_log import ExecutionLog
from durable.ids import IdSource
from durable.kinds.turn import Services
from durable.live import Live
from durable.registry import Registry
from durable.rooms.beat import BeatRoom
from durable.rooms.cancel import CancelRoom
from durable.rooms.checkpoint import CheckpointRoom
from durable.rooms.children import ChildrenRoom
from durable.rooms.claim import ClaimRoom
from durable.rooms.complete import CompleteRoom
from durable.rooms.deliver import DeliverRoom
from durable.rooms.held import HeldRows
from durable.rooms.loop import Waker, repeat
from durable.rooms.renew import RenewRoom
from durable.rooms.run import RunRoom
from durable.rooms.settle import SettleRoom
from durable.rooms.start import StartRoom
from durable.rooms.suspects import SuspectRoom
from durable.rooms.take import TakeRoom
from durable.rooms.upkeep import UpkeepRoom
from durable.served_pools import ServedPools
from durable.settings import ExecutorSettings
from durable.storage import ExecutorRow, Hint, said_by
from durable.telemetry import Telemetry
from durable.transitions import release
from durable.workflow.cache import ReplayCache
from durable.workflow.step import StepPlans

__all__ = ["Executor"]

_log = logging.getLogger("durable")
# What shutdown gives at least to each of its steps, in seconds, where the grace is used up; less than six in all.
_CLAIM_LIMIT = 1.0
_CANCEL_LIMIT = 1.0
_ROOMS_LIMIT = 0.3
_COMPLETE_LIMIT = 0.4
_FLUSH_LIMIT = 1.5
_DELIVER_LIMIT = 0.6
_WITHDRAW_LIMIT = 0.3
_ANNOUNCE_EVERY = 12.0
_MANY_ENDS = 16
"""Ends in one write that are more than answers to a few who wait: other processes hear of a stream of such writes in
bursts, because each hint is a statement of its own."""
_MIB = 1024 * 1024


class Executor:
    """Claims and runs executions inside this process, beside whatever else its event loop does."""

    def __init__(
        self, live: Live, registry: Registry, settings: ExecutorSettings, *, clock: Clock, ids: IdSource
    ) -> None:
        self.id = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"
        """New at every start: nothing may ever be taken for a predecessor's."""
        self._live = live
        self._registry = registry
        self._settings = settings
        self._clock = clock
        self._started_at = datetime.now(UTC)
        self._task_names = registry.claimed_names
        self._shutdown_signal = Signal()
        self._pools = ServedPools(settings, lambda: registry.pools)
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="durable-task")
        self._holdings = Holdings()
        self._collector = Collector(settings.gc_threshold)
        self._log = ExecutionLog(registry.log_level_of)
        # Of their own: how often the loops look must not change the jitter of retries, which a seed fixes in tests.
        polls = Random(live.random.random())  # noqa: S311 - jitter
        self._wakers = [Waker(polls) for _ in range(3)]
        self._tasks: list[asyncio.Task[None]] = []
        self._unsubscribe: list[Any] = []
        self._announced_at = float("-inf")
        self._telemetry = Telemetry(self.id)
        self._build(ids)

    def _build(self, ids: IdSource) -> None:
        storage, live = self._live.storage, self._live
        self._held = HeldRows(storage=storage, clock=self._clock)
        self._settle = SettleRoom(
            storage=storage,
            held=self._held,
            holdings=self._holdings,
            on_settled=self._on_settled,
            log=self._log,
            noted=self._noted,
            note=live.emitter.note,
            on_freed=self._on_freed,
            on_apart=lambda: self._claim.ends_written(),  # noqa: PLW0108 - the two rooms know each other; this one is first
        )
        self._deliver = DeliverRoom(
            executor_id=self.id, storage=storage, emitter=live.emitter, clock=self._clock, random=live.random
        )
        self._beat = BeatRoom(storage=storage, codec=self._registry.codec)
        self._checkpoint = CheckpointRoom(
            storage=storage,
            held=self._held,
            watch=lambda execution_id: live.waiters.futures([execution_id])[0],
            plans=StepPlans(lambda: self._registry.codec),
            cache=ReplayCache(
                self._clock,
                seconds=self._settings.keep_waiting,
                most_bytes=self._settings.keep_waiting_mib * _MIB,
            ),
            random=live.random,
            note=live.emitter.note,
            tell=live.bus.tell,
        )
        self._children = ChildrenRoom(storage)
        self._take = TakeRoom(storage=storage, clock=self._clock)
        services = self._services(ids)
        self._run = RunRoom(
            services=services,
            random=live.random,
            clock=self._clock,
            telemetry=self._telemetry,
            emitter=live.emitter,
            settle=self._end_turn,
            drop=self._drop,
            ended=lambda: self._claim.attempt_ended(),  # noqa: PLW0108 - the two rooms know each other; this one is first
        )
        self._complete = CompleteRoom(
            storage=storage, services=services, settle=self._settle, held=self._held, failure=self._run.failure,
            noted=self._noted,
        )  # fmt: skip
        self._build_loops()

    def _build_loops(self) -> None:
        """What finds work, and what keeps it: these use the rooms that run and settle."""
        storage, settings, live = self._live.storage, self._settings, self._live
        claim_waker, self._upkeep_waker, self._cancel_waker = self._wakers
        self._suspects = SuspectRoom(
            storage=storage,
            holdings=self._holdings,
            clock=self._clock,
            start=self._run.start,
            settle=self._settle.put,
            drop=self._drop,
            ended=lambda: self._claim.attempt_ended(),  # noqa: PLW0108 - the two rooms know each other; this one is first
        )
        self._claim = ClaimRoom(
            executor_id=self.id,
            storage=storage,
            settings=settings,
            task_names=self._task_names,
            pools=self._pools,
            holdings=self._holdings,
            clock=self._clock,
            waker=claim_waker,
            start=self._run.start,
            suspects=self._suspects,
            on_lost=self._on_lost,
            on_claimed=self._telemetry.claimed,
            apart=lambda: self._settle.apart,
        )
        self._start = StartRoom(
            executor_id=self.id, settings=settings, task_names=frozenset(self._task_names), claim=self._claim
        )
        self._renew = RenewRoom(
            storage=storage, holdings=self._holdings, clock=self._clock, lease=settings.lease, on_lost=self._on_lost
        )
        self._upkeep = UpkeepRoom(
            storage=storage,
            tell=live.bus.tell,
            on_recovered=self._telemetry.recovered,
            emitter=live.emitter,
            pools=self._pools,
            log=self._log,
            retention=settings.retention,
            clock=self._clock,
            interval=settings.upkeep_interval,
        )
        self._cancel = CancelRoom(
            executor_id=self.id,
            storage=storage,
            holdings=self._holdings,
            waker=self._cancel_waker,
            on_cancelled=self._on_cancelled,
        )

    def _services(self, ids: IdSource) -> Services:
        return Services(
            executor_id=self.id,
            registry=self._registry,
            ids=ids,
            threads=self._threads,
            shutdown_signal=self._shutdown_signal,
            beats=self._beat,
            children_of=self._children.children_of,
            take=self._take.take,
            limit=lambda attempt, seconds: self._run.limit(attempt, seconds),  # noqa: PLW0108 - there is no run room yet
            clock=self._clock,
            workflows=self._checkpoint,
            log=self._log,
        )

    # --- life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to claim. Every room is one task; none of them ends before `stop`."""
        storage, settings = self._live.storage, self._settings
        self._collector.relax()
        self._live.bus.hear()
        self._unsubscribe = [
            self._live.bus.subscribe(self._claim.on_hint),
            self._live.bus.subscribe(self._cancel.on_hint),
            self._live.bus.subscribe(self._deliver.on_hint),
        ]
        self._live.starters.append(self._start)
        self._renew.start()
        self._spawn(self._settle.run(), "settle")
        self._spawn(self._beat.run(), "beat")
        self._spawn(self._renew.run(), "renew")
        self._spawn(self._suspects.run(), "suspects")
        self._spawn(self._claim.run(), "claim")
        self._spawn(
            repeat(
                self._upkeep_step, storage=storage, waker=self._upkeep_waker,
                interval=self._upkeep.pause, what="upkeep", is_over=self._shutdown_signal.is_set,
            ),
            "upkeep",
        )  # fmt: skip
        self._spawn(
            repeat(
                self._cancel.step, storage=storage, waker=self._cancel_waker,
                interval=lambda: settings.poll_interval, what="looking for cancellations",
                is_over=self._shutdown_signal.is_set,
            ),
            "cancel",
        )  # fmt: skip
        for subscriber, waker in self._deliver.lanes:
            self._spawn(
                repeat(
                    partial(self._deliver.step, subscriber, waker), storage=storage, waker=waker,
                    interval=lambda: settings.poll_interval, what=f"delivering events to {subscriber.name!r}",
                    is_over=self._deliver.is_stopping,
                ),
                "deliver",
            )  # fmt: skip
        _log.info("executor %s serves %s", self.id, ", ".join(settings.queues))

    async def stop(self) -> None:
        """Stop claiming, wait out the grace, cancel what still runs, and give it back without burning an attempt.

        The grace is for the handlers, and what they leave of it for writing their ends. Ends within grace + 6 s
        whatever the database and the handlers do; what could not be written or given back is recovered by lease.
        """
        began_at = asyncio.get_running_loop().time()
        over_at = began_at + self._settings.grace + _FLUSH_LIMIT
        self._shutdown_signal.set()
        self._end("upkeep", "cancel")
        self._live.starters.remove(self._start)
        self._claim.stop()
        self._suspects.stop()
        # Upkeep announces the executor; it must be over before the withdrawal.
        await asyncio.wait(self._named("claim", "suspects", "upkeep", "cancel"), timeout=_CLAIM_LIMIT)
        self._end("suspects")
        self._give_back_unstarted()
        for claiming in self._named("claim"):
            claiming.add_done_callback(lambda _: self._give_back_unstarted())
        await self._wait_for_handlers(began_at + self._settings.grace)
        # One that ignores its end must not write beside whoever goes on with its execution.
        await self._within(self._end_rooms_of_handlers(), _ROOMS_LIMIT)
        await self._complete.stop(self._until(over_at, _COMPLETE_LIMIT), _COMPLETE_LIMIT)
        await self._within(self._claim.answered(), self._until(over_at, 0.0))
        self._end("claim")
        self._give_back_unstarted()
        await self._within(self._settle.flushed(), self._until(over_at, _FLUSH_LIMIT))
        await self._stop_delivering()
        await self._within(self._take_leave(), _WITHDRAW_LIMIT)
        self._end("settle", "beat", "renew")
        self._held.stop()
        self._checkpoint.cache.clear()
        self._renew.stop()
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._collector.restore()
        if len(self._holdings):
            _log.warning("executor %s leaves %d executions to their leases", self.id, len(self._holdings))

    def _until(self, moment: float, at_least: float) -> float:
        """Seconds until a moment of the event loop's clock."""
        return max(moment - asyncio.get_running_loop().time(), at_least)

    def _give_back_unstarted(self) -> None:
        for attempt in [*self._claim.take_unstarted(), *self._suspects.take_unstarted()]:
            self._settle.put(attempt, release(attempt.claimed))

    async def _end_rooms_of_handlers(self) -> None:
        await asyncio.gather(self._checkpoint.stop(), self._take.stop(), self._children.stop())

    async def _take_leave(self) -> None:
        await asyncio.gather(self._withdraw(), self._settle.stop())

    async def _wait_for_handlers(self, over_at: float) -> None:
        running = self._run.tasks
        if not running:
            return
        _, still = await asyncio.wait(running, timeout=self._until(over_at, 0.0))
        for attempt in self._holdings:
            if attempt.task in still:
                attempt.stop("shutdown")
        if not still:
            return
        _, deaf = await asyncio.wait(still, timeout=_CANCEL_LIMIT)
        for attempt in self._holdings:
            if attempt.task in deaf:
                self._run.give_up(attempt)

    async def _stop_delivering(self) -> None:
        """Deliver what is there, for a moment; then give the rest back, for whoever delivers next."""
        self._deliver.stop()
        delivering = self._named("deliver")
        if delivering and (await asyncio.wait(delivering, timeout=_DELIVER_LIMIT))[1]:
            self._end("deliver")
            await asyncio.wait(delivering, timeout=_WITHDRAW_LIMIT)

    @property
    def running(self) -> int:
        """Handlers that run now."""
        return self._claim.running

    @property
    def refused_count(self) -> int:
        """Ends of attempts that were refused because the lease had been lost."""
        return self._settle.refused_count

    @property
    def held(self) -> list[Claimed]:
        """What was claimed here and whose end is not yet written."""
        return [attempt.claimed for attempt in self._holdings]

    def wake(self) -> None:
        """Let every loop look for work now, and not at its next poll; for whoever moves the storage's clock."""
        for waker in self._loops:
            waker.ring()

    @property
    def _loops(self) -> list[Waker]:
        """What each loop sleeps on, those that deliver events among them."""
        return [*self._wakers, *(waker for _, waker in self._deliver.lanes)]

    @property
    def claimed_count(self) -> int:
        """Executions claimed so far."""
        return self._claim.claimed_count

    @property
    def is_quiet(self) -> bool:
        """Nothing is held here and every loop sleeps; one may be about to wake by itself."""
        return self._claim.is_answered and not len(self._holdings) and all(waker.is_asleep for waker in self._loops)

    async def quiet(self) -> None:
        """Wait until nothing is held here and every loop sleeps, having found nothing more to do.

        An attempt is held until its end is written, so what the complete and the settle room do is waited for as well.
        """
        while not self.is_quiet:
            await self._claim.answered()
            await self._holdings.emptied()
            for waker in self._loops:
                await waker.asleep()

    async def next_due(self) -> datetime | None:
        """The earliest moment, by the storage's clock, at which there is something for this executor to do."""
        queues = tuple(dict.fromkeys((*self._settings.queues, *self._pools())))
        return await self._live.storage.next_due(queues=queues, task_names=self._task_names)

    @property
    def reports_pools(self) -> bool:
        """It has pools to report on in each minute of the storage's clock, and somebody is told."""
        return self._live.emitter.delivers_reports and bool(self._pools())

    def _spawn(self, room: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(room, name=f"durable-{name}"))

    def _named(self, *rooms: str) -> list[asyncio.Task[None]]:
        return [task for task in self._tasks if task.get_name().removeprefix("durable-") in rooms]

    def _end(self, *rooms: str) -> None:
        for task in self._named(*rooms):
            task.cancel()

    async def _within(self, work: Coroutine[Any, Any, None], limit: float) -> None:
        """Wait for work at most `limit` seconds; a query on a dead connection may not even notice its cancellation."""
        task = asyncio.create_task(work)
        await asyncio.wait({task}, timeout=limit)
        task.cancel()

    # --- between the rooms ---------------------------------------------------------------------------------

    def _on_settled(self, settlements: list[Settlement], settled: Settled, refused: int) -> None:
        # Most ends are bare: what follows asks the others only.
        others = [item for item in settlements if not item.is_bare]
        self._telemetry.settled(len(settlements) - len(others), others, refused)
        self._claim.ends_written()
        if self._live.emitter.is_on and any(item.notices for item in settlements):
            self._deliver.ring()
        hints = [Hint("ready", queue) for queue in settled.ready_queues]
        for item in others:
            if item.workflow is None:
                continue
            if item.is_suspension:
                self._checkpoint.cache.confirm(item.id, item.fence)
            if item.workflow.says_something:
                hints.append(said_by(item.id))
            if item.workflow.cancels:
                hints.append(Hint("cancelled", ""))
        if self._live.waiters.are_interested:
            self._live.waiters.resolve(
                FinishedExecution(item.id, item.status, item.output, item.error)
                for item in settlements
                if item.status in FINISHED
            )
        if len(others) < len(settlements) or any(item.status in FINISHED for item in others):
            tell = self._live.bus.tell_others_paced if len(settlements) >= _MANY_ENDS else self._live.bus.tell_others
            tell(Hint("finished", ""))
        if settled.has_cancelled:
            # Which of them, only the storage knows; a cancelled child may have made its parent ready.
            self._live.bus.tell(Hint("finished", ""), Hint("ready", ""), *self._live.emitter.hints)
        delays = [item.delay for item in others if item.job is None]
        soon = [delay for delay in (*delays, settled.soonest or 0.0) if 0 < delay <= self._settings.poll_interval]
        if soon:
            asyncio.get_running_loop().call_later(min(soon), self._wakers[0].ring)
        self._live.bus.tell(*hints, *_later_hints(others))

    def _noted(self, attempt: Attempt, settlement: Settlement) -> Settlement:
        return self._run.noted(attempt, settlement)

    def _on_freed(self, queues: set[str]) -> None:
        """Places in pools are free again: here or elsewhere something may have waited for them."""
        pools = queues.intersection(self._pools())
        if pools:
            # A claim made before saw them running. Told to all who listen here: this app may have other executors.
            self._live.bus.tell(*(Hint("ready", pool) for pool in pools))

    def _on_lost(self, attempt: Attempt) -> None:
        message = "execution %s lost its lease here; its attempt is stopped"
        self._log.write(logging.WARNING, attempt.claimed, message, attempt.claimed.id)
        self._stop_attempt(attempt, "lost")

    def _on_cancelled(self, attempt: Attempt) -> None:
        if attempt.claimed.kind is Kind.WORKFLOW:
            attempt.tell_news()
        else:
            self._stop_attempt(attempt, "cancelled")

    def _stop_attempt(self, attempt: Attempt, reason: str) -> None:
        self._run.stop(attempt, reason)
        if attempt.task is None:
            self._holdings.remove(attempt)
            self._claim.drop_lost()

    def _end_turn(self, attempt: Attempt, settlement: Settlement) -> None:
        self._complete.put(attempt, settlement)

    def _drop(self, attempt: Attempt) -> None:
        """An attempt that may not write any more: forget it."""
        self._holdings.remove(attempt)

    async def _upkeep_step(self) -> None:
        self._checkpoint.cache.let_go()
        await self._upkeep.step()
        await self._live.ensure_pools(list(self._registry.pools.values()))
        now = self._clock.monotonic()
        if now - self._announced_at >= _ANNOUNCE_EVERY:
            self._announced_at = now
            if await self._pools.look(self._live.storage):
                self._wakers[0].ring()
            await self._live.storage.announce(self._row())

    async def _withdraw(self) -> None:
        try:
            await self._live.storage.withdraw(self.id)
        except Exception as error:
            _log.debug("the executor could not say that it leaves: %s", error)

    def _row(self) -> ExecutorRow:
        queues = tuple(dict.fromkeys((*self._settings.queues, *self._pools())))
        return ExecutorRow(
            self.id, queues, self._task_names, self.running, self._settings.concurrency,
            self._started_at, self._started_at,
        )  # fmt: skip


def _later_hints(settlements: list[Settlement]) -> set[Hint]:
    """For the queues in which children, or batches of sent events, will be due: whoever sleeps there looks again."""
    queues = {
        child.queue for item in settlements for child in item.children if child.delay > 0 or child.run_at is not None
    }
    sends = [event for item in settlements if item.job is not None for event in item.job.sends]
    return {Hint("ready", queue) for queue in queues.union(e.turn.queue for e in sends if e.policy.window is not None)}
