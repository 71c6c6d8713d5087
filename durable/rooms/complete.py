"""Complete: write ends together with what a completion callback writes, each in a transaction of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from durable.attempts import Attempt
from durable.callbacks import first_call, is_within, task_of
from durable.errors import DurableError, RowsHeld
from durable.execution import Settled, Settlement, Status
from durable.kinds import RUNNERS
from durable.kinds.turn import Services, Turn
from durable.outcomes import Joined
from durable.rooms.held import LOCK_TIMEOUT, MOST_LOOKS, HeldRows
from durable.rooms.loop import patiently
from durable.rooms.run import HandlerTimedOut
from durable.rooms.settle import Ending, SettleRoom
from durable.rooms.touched import rows_of_end
from durable.running import enter
from durable.storage import Storage
from durable.transitions import complete, release

__all__ = ["CompleteRoom"]

_log = logging.getLogger("durable")
_MOST = 4
"""Transactions at once: each holds a connection for as long as its callback runs."""
_LEASE = 15.0
_PATIENCE = 10.0
"""Seconds for which an end waits for a transaction; after that it waits no longer for its callback."""
_NOTHING = Settled(frozenset(), frozenset())


class _Refused(Exception):
    """The lease was lost: the callback's writes are rolled back."""


class _WasHeld(Exception):
    """Somebody holds what the end writes: all was rolled back, the callback's writes included."""


class _CallFailed(Exception):
    """The function was called, and it raised, or the transaction that it was called in came to nothing."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(str(error))


class _End:
    """One end on its way into the storage."""

    __slots__ = ("attempt", "call", "call_end", "has_begun", "is_given_up", "settlement")

    def __init__(self, attempt: Attempt, settlement: Settlement, call: Attempt | None) -> None:
        self.attempt = attempt
        self.settlement = settlement
        self.call = call
        """The first attempt of the callback, made beside the end; None: the attempt is the callback's own."""
        self.call_end: Settlement | None = None
        """How that first attempt ends, once it is known."""
        self.has_begun = False
        """The callback's function was called: what goes wrong from now on is a failure of that attempt."""
        self.is_given_up = False
        """It was settled without its callback, whose transaction comes to nothing."""

    @property
    def endings(self) -> list[Ending]:
        own = [(self.attempt, self.settlement)]
        return own if self.call is None or self.call_end is None else [*own, (self.call, self.call_end)]


class CompleteRoom:
    """Passes ends on to the settle room, but for those that a callback is to be committed with.

    If the callback raises, its writes are rolled back to before it and the end is committed all the same; the
    callback's execution stays, with that failure as its first attempt. The same is written, by another transaction, if
    the first is lost once the callback was called: its starts are counted whatever becomes of them. A transaction that
    cannot be had is asked for again for a while; without one, the end is settled in the ordinary way, and the
    callback's execution is made by that. An end whose rows somebody holds waits for them without a transaction.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        services: Services,
        settle: SettleRoom,
        held: HeldRows,
        failure: Callable[[Attempt, BaseException], Settlement],
        noted: Callable[[Attempt, Settlement], Settlement],
    ) -> None:
        self._storage = storage
        self._services = services
        self._settle = settle
        self._held = held
        self._failure = failure
        self._noted = noted
        self._slots = asyncio.Semaphore(_MOST)
        self._tasks: dict[asyncio.Task[None], _End] = {}

    def put(self, attempt: Attempt, settlement: Settlement) -> None:
        """Hand an end over; it is written soon, alone or with others."""
        is_called_back = attempt.joined is not None or attempt.claimed.on_complete is not None
        if not is_called_back or not self._is_joined(attempt, settlement):
            self._settle.put(attempt, settlement)
            return
        end = self._end_of(attempt, settlement)
        task = asyncio.create_task(self._write(end), name="durable-complete")
        self._tasks[task] = end
        task.add_done_callback(self._tasks.pop)

    async def stop(self, limit: float, cancel_limit: float) -> None:
        """Wait `limit` seconds for what runs; what is left then is settled without its callback.

        A callback that does not end within `cancel_limit` seconds of its cancellation is not waited for either: its
        transaction comes to nothing.
        """
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=limit)
        for task in late:
            task.cancel()
        if late:
            _, deaf = await asyncio.wait(late, timeout=cancel_limit)
            for task in deaf:
                self._give_up(self._tasks[task])

    def _is_joined(self, attempt: Attempt, settlement: Settlement) -> bool:
        if attempt.joined is not None:
            return settlement.status == Status.COMPLETED
        spec = attempt.claimed.on_complete
        return spec is not None and is_within(spec, settlement.status) and task_of(spec) in self._services.registry

    async def _write(self, end: _End) -> None:
        given = end.attempt, end.settlement
        try:
            try:
                settled = await self._written(end)
            except _Refused:
                if not end.is_given_up:
                    self._settle.finish([given], _NOTHING)
            except Exception as error:
                if not end.is_given_up:
                    await self._after_error(end, error)
            else:
                self._settle.finish(end.endings, settled)
        except asyncio.CancelledError:
            self._give_up(end)
        except Exception:
            _log.exception("execution %s is settled without its callback, which follows", end.settlement.id)
            self._give_up(end)

    def _give_up(self, end: _End) -> None:
        """The executor stops, or nothing is known of the transaction: a call is given back, an end is kept."""
        if end.is_given_up:
            return
        end.is_given_up = True
        attempt = end.attempt
        self._settle.put(attempt, end.settlement if attempt.joined is None else release(attempt.claimed))

    async def _written(self, end: _End) -> Settled:
        """Have it written in a transaction; rows that somebody holds are waited for without one."""
        looks = 0
        while True:
            await self._rows_free(end)
            try:
                async with self._slots:
                    return await patiently(
                        self._storage, partial(self._try, end), "ending with a callback", within=_PATIENCE
                    )
            except _WasHeld:
                if await self._held.look(rows_of_end(end.attempt, end.settlement)):
                    continue
                looks += 1
                if looks == MOST_LOOKS:
                    raise

    async def _rows_free(self, end: _End) -> None:
        if held := self._held.among(rows_of_end(end.attempt, end.settlement)):
            await self._held.free(held)

    def _end_of(self, attempt: Attempt, settlement: Settlement) -> _End:
        if attempt.joined is not None:
            return _End(attempt, settlement, None)
        now = self._services.clock.monotonic()
        return _End(attempt, settlement, Attempt(first_call(attempt.claimed, settlement), now, now + _LEASE))

    async def _try(self, end: _End) -> Settled:
        """One transaction. The storage's errors pass through only while the callback was not yet called.

        Rows that somebody else holds are none of its failures: it is rolled back, and called anew with the next try.
        """
        try:
            return await self._in_transaction(end)
        except (_Refused, _CallFailed):
            raise
        except RowsHeld as error:
            end.has_begun = False
            raise _WasHeld from error
        except Exception as error:
            if end.has_begun:
                raise _CallFailed(error) from error
            raise

    async def _after_error(self, end: _End, error: Exception) -> None:
        if await self._was_committed(end):
            return
        attempt, claimed = end.attempt, end.attempt.claimed
        cause = error.error if isinstance(error, _CallFailed) else error
        if end.call is not None:
            if not end.has_begun or not await self._wrote_failure(end, end.call, cause):
                message = "execution %s is settled without its callback, which follows: %s"
                self._services.log.write(logging.WARNING, claimed, message, claimed.id, type(cause).__name__)
                self._settle.put(attempt, end.settlement)
        elif not end.has_begun and (isinstance(error, _WasHeld) or self._storage.is_transient(error)):
            # Nothing was called: an outage must not cost an attempt.
            self._settle.put(attempt, release(claimed))
        else:
            self._settle.put(attempt, self._noted(attempt, self._failure(attempt, cause)))

    async def _was_committed(self, end: _End) -> bool:
        """The commit may have gone through although its answer was lost; only the storage knows."""
        key = (end.settlement.id, end.settlement.fence)

        async def ask() -> frozenset[str]:
            return await self._storage.settled([key])

        accepted = await patiently(self._storage, ask, "looking for an end")
        if accepted:
            ids = frozenset(settlement.id for _, settlement in end.endings)
            self._settle.finish(end.endings, Settled(ids, frozenset()))
        return bool(accepted)

    async def _wrote_failure(self, end: _End, call: Attempt, cause: BaseException) -> bool:
        """Write the end and the failure of its callback without calling it again; False if that cannot be."""
        if end.call_end is None or end.call_end.status is Status.COMPLETED:
            end.call_end = self._noted(call, self._failure(call, cause))

        async def write() -> Settled:
            await self._rows_free(end)
            try:
                async with self._storage.transaction() as connection:
                    return await self._write_both(end, call, connection)
            except RowsHeld:
                await self._held.look(rows_of_end(end.attempt, end.settlement))
                raise

        try:
            settled = await patiently(self._storage, write, "settling beside a callback")
        except Exception:
            return await self._was_committed(end)
        self._settle.finish(end.endings, settled)
        return True

    async def _in_transaction(self, end: _End) -> Settled:
        """User code runs first, so that no record is locked for long: renewals of leases would wait for it."""
        async with self._storage.transaction() as connection:
            if end.call is not None:
                end.call_end = self._noted(end.call, await self._first_attempt(end, end.call, connection))
                if end.is_given_up:
                    raise _Refused
                return await self._write_both(end, end.call, connection)
            assert end.attempt.joined is not None, "an end is joined by its own call or by that of a callback"
            output = await self._call(end, end.attempt, end.attempt.joined, connection)
            if end.is_given_up:
                raise _Refused
            # Only now is known what is to be told of it.
            end.settlement = self._noted(end.attempt, end.settlement._replace(output=output, notices=()))
            return await self._accepted(end.settlement, connection)

    async def _write_both(self, end: _End, call: Attempt, connection: Any) -> Settled:
        assert end.call_end is not None, "the callback was called"
        settled = await self._accepted(end.settlement, connection)
        claimed = await self._storage.claim_callback(
            call.claimed.id, executor_id=self._services.executor_id, lease=_LEASE
        ).await_on(connection)
        if claimed is None or claimed.fence != call.claimed.fence:
            raise _CallFailed(RuntimeError(f"callback {call.claimed.id} is not there"))
        of_call = await self._storage.settle([end.call_end]).await_on(connection)
        return settled._replace(
            accepted=settled.accepted | of_call.accepted, ready_queues=settled.ready_queues | of_call.ready_queues
        )

    async def _accepted(self, settlement: Settlement, connection: Any) -> Settled:
        settled = await self._storage.settle([settlement], lock_timeout=LOCK_TIMEOUT).await_on(connection)
        if not settled.accepted:
            raise _Refused
        return settled

    async def _first_attempt(self, end: _End, call: Attempt, connection: Any) -> Settlement:
        """How the first attempt of a callback ends, with its writes in the transaction, or without them."""
        turn = Turn(call, self._services.registry[call.claimed.task_name], self._services, Attempt.stop)
        call.started_at = self._services.clock.monotonic()
        try:
            outcome = await RUNNERS[call.claimed.kind](turn)
            assert isinstance(outcome, Joined), "a callback of this mode waits for its connection"
            async with self._storage.transaction(connection):
                return complete(call.claimed, await self._call(end, call, outcome.call, connection))
        except _CallFailed as failed:
            return self._failure(call, failed.error)
        except DurableError as error:
            if not end.has_begun and self._storage.is_transient(error):
                raise
            return self._failure(call, error)

    async def _call(self, end: _End, attempt: Attempt, call: Callable[[], Awaitable[str]], connection: Any) -> str:
        enter(attempt.claimed)
        attempt.connection = connection
        scope = asyncio.timeout(attempt.claimed.timeout)
        end.has_begun = True
        try:
            async with scope:
                return await call()
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _is_stopped():
                raise
            timed_out = isinstance(error, TimeoutError) and scope.expired()
            raise _CallFailed(HandlerTimedOut() if timed_out else error) from error
        finally:
            attempt.connection = None


def _is_stopped() -> bool:
    """True when the executor has cancelled this task; a handler may raise CancelledError by itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
