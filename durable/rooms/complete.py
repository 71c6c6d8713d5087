"""Complete: write ends together with what a completion callback writes, each in a transaction of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from durable.attempts import Attempt
from durable.callbacks import first_call, is_within, task_of
from durable.errors import DurableError
from durable.execution import Settled, Settlement, Status
from durable.kinds import RUNNERS
from durable.kinds.turn import Services, Turn
from durable.outcomes import Joined
from durable.rooms.loop import patiently
from durable.rooms.run import HandlerTimedOut
from durable.rooms.settle import Ending, SettleRoom
from durable.running import enter
from durable.storage import Storage
from durable.transitions import complete, release

__all__ = ["CompleteRoom"]

_MOST = 4
"""Transactions at once: each holds a connection for as long as its callback runs."""
_LEASE = 15.0
_NOTHING = Settled(frozenset(), frozenset())


class _Refused(Exception):
    """The lease was lost: the callback's writes are rolled back."""


class _CallFailed(Exception):
    """The function itself raised, and not the storage."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(str(error))


class CompleteRoom:
    """Passes ends on to the settle room, but for those that a callback is to be committed with.

    If the callback raises, its writes are rolled back to before it and the end is committed all the same; the
    callback's execution stays, with that failure as its first attempt. If the transaction itself is lost, the end is
    settled in the ordinary way, and the callback's execution is made by that.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        services: Services,
        settle: SettleRoom,
        failure: Callable[[Attempt, BaseException], Settlement],
        noted: Callable[[Attempt, Settlement], Settlement],
    ) -> None:
        self._storage = storage
        self._services = services
        self._settle = settle
        self._failure = failure
        self._noted = noted
        self._slots = asyncio.Semaphore(_MOST)
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, attempt: Attempt, settlement: Settlement) -> None:
        """Hand an end over; it is written soon, alone or with others."""
        is_called_back = attempt.joined is not None or attempt.claimed.on_complete is not None
        if not is_called_back or not self._is_joined(attempt, settlement):
            self._settle.put(attempt, settlement)
            return
        task = asyncio.create_task(self._write(attempt, settlement), name="durable-complete")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self, limit: float) -> None:
        """Wait `limit` seconds for what runs; what is left then is settled without its callback."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=limit)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=limit)

    def _is_joined(self, attempt: Attempt, settlement: Settlement) -> bool:
        if attempt.joined is not None:
            return settlement.status == Status.COMPLETED
        spec = attempt.claimed.on_complete
        return spec is not None and is_within(spec, settlement.status) and task_of(spec) in self._services.registry

    async def _write(self, attempt: Attempt, settlement: Settlement) -> None:
        try:
            async with self._slots:
                endings, settled = await self._in_transaction(attempt, settlement)
        except _Refused:
            endings, settled = [(attempt, settlement)], _NOTHING
        except asyncio.CancelledError:
            # The executor stops: the call is given back, the end is kept.
            self._settle.put(attempt, settlement if attempt.joined is None else release(attempt.claimed))
            return
        except BaseException as error:
            await self._after_error(attempt, settlement, error)
            return
        self._settle.finish(endings, settled)

    async def _after_error(self, attempt: Attempt, settlement: Settlement, error: BaseException) -> None:
        """The commit may have gone through although its answer was lost; only the storage knows."""

        async def ask() -> frozenset[str]:
            return await self._storage.settled([(settlement.id, settlement.fence)])

        accepted = await patiently(self._storage, ask, "looking for an end")
        if accepted:
            self._settle.finish([(attempt, settlement)], Settled(accepted, frozenset()))
        elif attempt.joined is None:
            message = "execution %s is settled without its callback, which follows: %s"
            self._services.log.write(logging.WARNING, attempt.claimed, message, settlement.id, error)
            self._settle.put(attempt, settlement)
        elif isinstance(error, _CallFailed):
            self._settle.put(attempt, self._noted(attempt, self._failure(attempt, error.error)))
        elif isinstance(error, Exception) and self._storage.is_transient(error):
            # An outage must not cost an attempt: these are for what the function does.
            self._settle.put(attempt, release(attempt.claimed))
        else:
            self._settle.put(attempt, self._noted(attempt, self._failure(attempt, error)))

    async def _in_transaction(self, attempt: Attempt, settlement: Settlement) -> tuple[list[Ending], Settled]:
        """User code runs first, so that no record is locked for long: renewals of leases would wait for it."""
        async with self._storage.transaction() as connection:
            if attempt.joined is not None:
                output = await self._call(attempt, attempt.joined, connection)
                # Only now is known what is to be told of it.
                whole = self._noted(attempt, settlement._replace(output=output, notices=()))
                return [(attempt, whole)], await self._accepted(whole, connection)
            started_at = self._services.clock.monotonic()
            call = Attempt(first_call(attempt.claimed, settlement), started_at, started_at + _LEASE)
            end = self._noted(call, await self._first_attempt(call, connection))
            settled = await self._accepted(settlement, connection)
            claimed = await self._storage.claim_callback(
                call.claimed.id, executor_id=self._services.executor_id, lease=_LEASE
            ).await_on(connection)
            if claimed is None or claimed.fence != call.claimed.fence:
                raise _CallFailed(RuntimeError(f"callback {call.claimed.id} is not there"))
            settled_call = await self._storage.settle([end]).await_on(connection)
        both = Settled(settled.accepted | settled_call.accepted, settled.ready_queues | settled_call.ready_queues)
        return [(attempt, settlement), (call, end)], both

    async def _accepted(self, settlement: Settlement, connection: Any) -> Settled:
        settled = await self._storage.settle([settlement]).await_on(connection)
        if not settled.accepted:
            raise _Refused
        return settled

    async def _first_attempt(self, call: Attempt, connection: Any) -> Settlement:
        """How the first attempt of a callback ends, with its writes in the transaction, or without them."""
        turn = Turn(call, self._services.registry[call.claimed.task_name], self._services, Attempt.stop)
        try:
            outcome = await RUNNERS[call.claimed.kind](turn)
            assert isinstance(outcome, Joined), "a callback of this mode waits for its connection"
            async with self._storage.transaction(connection):
                return complete(call.claimed, await self._call(call, outcome.call, connection))
        except _CallFailed as failed:
            return self._failure(call, failed.error)
        except DurableError as error:
            return self._failure(call, error)

    async def _call(self, attempt: Attempt, call: Callable[[], Awaitable[str]], connection: Any) -> str:
        enter(attempt.claimed)
        attempt.connection = connection
        scope = asyncio.timeout(attempt.claimed.timeout)
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
