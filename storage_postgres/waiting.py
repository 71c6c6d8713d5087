"""A connection whose socket stays with the event loop from one statement to the next.

psycopg registers the socket anew for each answer it waits for, with a timer beside it. That takes a tenth of a short
statement's time, and a connection that is used waits again at once.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import sys
from contextlib import suppress
from typing import Any, Final, TypeVar

import psycopg
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGconn
from psycopg.waiting import Ready, Wait, wait_async

__all__ = ["WaitingConnection"]

T = TypeVar("T")
_log = logging.getLogger("durable.postgres")
_HAS_DESCRIPTORS: Final = sys.platform != "win32"
_LOOK: Final = 0.1
"""Seconds between looks whether the connection is still used, and still there."""
_CANCEL: Final = 5.0
"""Seconds that the server has to hear of a cancellation, and to end the statement; as long as psycopg gives it."""
_ENDED: Final = (TransactionStatus.IDLE, TransactionStatus.INTRANS, TransactionStatus.INERROR)
"""Of a statement that has ended: by the cancellation, or by an error of its own."""


class WaitingConnection(psycopg.AsyncConnection[Any]):
    """As psycopg's; only waiting for an answer is done here, where the event loop is one of asyncio's with selectors.

    All else that a statement may wait for, above all room to send, is left to psycopg.
    """

    _watch: _Watch | None = None

    async def wait(self, gen: PQGen[T], interval: float = _LOOK, timeout: float | None = None) -> T:
        loop = asyncio.get_running_loop()
        if timeout is not None or not _HAS_DESCRIPTORS or not isinstance(loop, asyncio.SelectorEventLoop):
            return await super().wait(gen, interval, timeout)
        _ = self.pgconn.socket  # raises OperationalError while the generator has nothing to clean up
        try:
            state = next(gen)
        except StopIteration as end:
            value: T = end.value
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                # A round of a pipeline or a COPY, of which psycopg gives the event loop its turn now and then.
                return await super().wait(_over(value), interval)
            return value
        if state == Wait.R:
            watch = self._watch
            if watch is None or watch.is_over or watch.loop is not loop:
                # One of another event loop ends by itself; nothing of it is shared with this one.
                try:
                    watch = self._watch = _watching(loop, self.pgconn)
                except OSError:  # no descriptor is left for one of its own
                    return await super().wait(_resumed(gen, state), interval)
            try:
                outcome = await watch.follow(gen)
            except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
                watch.forget()
                if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                    await self._cancel(gen)
                raise
            if isinstance(outcome, StopIteration):
                return outcome.value  # type: ignore[no-any-return]  # what a PQGen[T] returns
            state = outcome
        return await super().wait(_resumed(gen, state), interval)

    async def close(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.end()
        await super().close()

    async def _cancel(self, gen: PQGen[Any]) -> None:
        """End the statement that nobody waits for any more, or else the connection, as psycopg does it."""
        try:
            await self._request_cancel()
            await wait_async(_resumed(gen, Wait.R), self.pgconn.socket, interval=_LOOK, timeout=_CANCEL)
        except Exception as error:
            if self.pgconn.transaction_status not in _ENDED:
                self._give_up(error)
        except BaseException as error:  # interrupted once more
            self._give_up(error)
            raise

    def _give_up(self, error: BaseException) -> None:
        _log.warning("a cancelled statement did not end (%s); its connection is closed", type(error).__name__)
        self.pgconn.finish()

    async def _request_cancel(self) -> None:
        try:
            await self.cancel_safe(timeout=_CANCEL)
        except Exception as error:
            _log.warning("a statement could not be cancelled: %s", error)


class _Watch:
    """The socket of one connection in one event loop, until nobody has waited at a look, or it speaks unasked.

    What is registered is a descriptor of its own for the same socket: libpq closes the other one where the connection
    ends, and its number may belong to something else before anybody could tell the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, pgconn: PGconn) -> None:
        self._descriptor = -1
        self.loop = loop
        self._pgconn = pgconn
        self._gen: PQGen[Any] | None = None
        self._future: asyncio.Future[StopIteration | Wait] | None = None
        self._descriptor = os.dup(pgconn.socket)
        loop.add_reader(self._descriptor, self._go_on)
        self._timer = loop.call_later(_LOOK, self._look)

    def __del__(self) -> None:
        # Only where the event loop was closed before the connection was; it has forgotten the descriptor then.
        if not self.is_over:
            os.close(self._descriptor)

    @property
    def is_over(self) -> bool:
        return self._descriptor < 0

    def follow(self, gen: PQGen[Any]) -> asyncio.Future[StopIteration | Wait]:
        """Send it word of each answer until it ends, or wants to wait for something else."""
        future: asyncio.Future[StopIteration | Wait] = self.loop.create_future()
        self._gen, self._future = gen, future
        return future

    def forget(self) -> None:
        """Nobody waits for it any more."""
        self._gen = self._future = None

    def end(self) -> None:
        """Nothing of the connection is with the event loop any more. Who still waits is told that it was closed."""
        if self.is_over:
            return
        self._timer.cancel()
        self.loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        self._fail(errors.OperationalError("connection socket closed"))

    def _go_on(self) -> None:
        """The socket can be read. Done here and not by the task, so that the event loop is not told of it twice."""
        gen, future = self._gen, self._future
        if gen is None or future is None:
            self.end()  # said without being asked: it would be told of it again and again
            return
        if future.done():
            return  # by a cancellation that its task has not heard of yet
        try:
            state = gen.send(Ready.R)
        except StopIteration as end:
            future.set_result(end)
        except Exception as error:
            future.set_exception(error)
        else:
            if state == Wait.R:
                return
            future.set_result(state)
        self.forget()

    def _look(self) -> None:
        if self._gen is None:
            self.end()
            return
        self._timer = self.loop.call_later(_LOOK, self._look)
        try:
            _ = self._pgconn.socket
        except errors.OperationalError as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        gen, future = self._gen, self._future
        self.forget()
        if gen is not None:
            with suppress(psycopg.Error):  # what it would still ask of a connection that is gone
                gen.close()
        if future is not None and not future.done():
            future.set_exception(error)


def _watching(loop: asyncio.AbstractEventLoop, pgconn: PGconn) -> _Watch:
    """Raises OperationalError for a lost connection, and OSError where there are no descriptors left."""
    # In an empty context: it outlives the caller's, of which the event loop would keep all there is.
    return contextvars.Context().run(_Watch, loop, pgconn)


def _resumed(gen: PQGen[T], state: Wait) -> PQGen[T]:
    """The rest of a generator that has said what it waits for."""
    try:
        while True:
            state = gen.send((yield state))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def _over(value: T) -> PQGen[T]:
    """One that ends without having waited."""
    return value
    yield Wait.R
