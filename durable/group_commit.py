"""Group commit: what arrives while a write is in flight goes out with the next one. A lone item is written at once.

Senders that wait for one write together, compute, and come back together, would make this process and the storage take
turns. So as soon as half as many as went out last are there again, they go out, and the storage writes one half while
the other is computed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from durable.eager import begun
from durable.errors import NotOpen, StorageUnavailable

__all__ = ["GroupCommit"]

I = TypeVar("I")  # noqa: E741 - item
O = TypeVar("O")  # noqa: E741 - output
_FEW: Final = 32
"""Items that are not worth a write of their own while others are about to come: it costs as much as ten of them."""


class GroupCommit(Generic[I, O]):
    """Gathers single items into batches for `write`, which gives one result for each item, in order.

    Adds no waiting. When a batch fails for a reason that lies in the data, its items are written one by one, so a bad
    one fails alone.
    """

    def __init__(
        self, write: Callable[[Sequence[I]], Awaitable[Sequence[O]]], *, most: int = 1000, gathers: bool = False,
        halves: bool = False,
    ) -> None:  # fmt: skip
        """`gathers`: items come many at a time, so the first waits until all that is ready to run has run.

        `halves`: and those who wait for them come back with the next.
        """
        self._write = write
        self._loop = asyncio.get_running_loop()
        """Kept, because asyncio asks the system for the process at each `get_running_loop` before Python 3.12."""
        self._most = most
        self._gathers = gathers
        self._pending: list[tuple[I, asyncio.Future[O]]] = []
        self._halves = halves
        self._enough = _FEW
        """So many go out without waiting for more, where the same senders come again and again."""
        self._is_writing = False
        self._soon: asyncio.Handle | None = None
        """Begins to write when all that is ready to run has run."""
        self._flusher: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        """Set when, after a close, nothing is being written any more."""
        self._is_closed = False

    async def submit(self, item: I) -> O:
        """Write the item and give its result. Cancelled while waiting, it may or may not have been written."""
        if self._is_closed:
            raise NotOpen("the client was closed, or the executor has stopped")
        if not self._is_writing and not self._gathers:
            return await self._write_alone(item)
        return await self.put(item)

    def put(self, item: I) -> asyncio.Future[O]:
        """As submit, with others, for a caller that has not much more to do than to wait for it."""
        if self._is_closed:
            raise NotOpen("the client was closed, or the executor has stopped")
        future: asyncio.Future[O] = self._loop.create_future()
        self._pending.append((item, future))
        if not self._is_writing:
            if self._halves and len(self._pending) >= self._enough:
                self._go_on()
            elif self._soon is None:
                self._soon = self._loop.call_soon(self._go_on)
        return future

    async def close(self) -> None:
        """Refuse new items and wait for those accepted; every one is written or its caller is told."""
        self._is_closed = True
        if self._is_writing or self._pending:
            await self._idle.wait()

    async def cancel(self) -> None:
        """Refuse new items and give up those accepted: their callers are cancelled.

        The write that is on its way is cancelled as well, and over on return; it may have been made. One that a caller
        makes by itself ends with that caller.
        """
        self._is_closed = True
        pending, self._pending = self._pending, []
        for _, future in pending:
            future.cancel()
        if self._flusher is not None:
            self._flusher.cancel()
            await asyncio.wait({self._flusher})

    async def _write_alone(self, item: I) -> O:
        """By its own caller: a task for it, and the wake-up after, would take as long as a tenth of a commit."""
        self._is_writing = True
        try:
            (result,) = await self._write([item])
        finally:
            self._is_writing = False
            self._go_on()
        return result

    def _go_on(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._pending:
            self._is_writing = True
            flusher = begun(self._loop, self._flush(), name="durable-group-commit")
            self._flusher = None if flusher.done() else flusher  # the event loop's own reference is weak
        elif self._is_closed:
            self._idle.set()

    async def _flush(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending[: self._most], self._pending[self._most :]
                self._enough = max(_FEW, len(batch) // 2)
                await self._write_batch(batch)
        except asyncio.CancelledError:  # with its event loop: nobody else knows of this task
            pending, self._pending = self._pending, []
            for _, future in pending:
                future.cancel()
            raise
        finally:
            self._is_writing, self._flusher = False, None
            self._go_on()

    async def _write_batch(self, batch: list[tuple[I, asyncio.Future[O]]]) -> None:
        try:
            results = await self._write([item for item, _ in batch])
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, StorageUnavailable):
                for single in batch:
                    await self._write_batch([single])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
