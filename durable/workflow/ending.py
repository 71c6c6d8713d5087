"""Steps that were stopped and have not ended yet: what undoes the work of a workflow waits for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

__all__ = ["Ending"]

_log = logging.getLogger("durable")


def _forget(future: asyncio.Future[Any]) -> None:
    """Of a thread, which may end when the event loop is closed, and must not call it then."""
    if not isinstance(future, asyncio.Task):
        future.cancel()


class Ending:
    """Of one turn. True while there are any."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self._left: dict[asyncio.Future[Any], asyncio.TimerHandle | None] = {}

    def __bool__(self) -> bool:
        return bool(self._left)

    def add(self, future: asyncio.Future[Any], key: str, *, until: float | None) -> None:
        """`until`: by the event loop's time, when it is waited for no longer; None: it is, as long as it takes."""
        if future.done():
            return
        timer = None
        if until is not None:
            timer = asyncio.get_running_loop().call_at(until, self._give_up, future, key)
        self._left[future] = timer
        future.add_done_callback(self._end)

    def close(self) -> None:
        """Nobody waits any more."""
        left, self._left = self._left, {}
        for future, timer in left.items():
            if timer is not None:
                timer.cancel()
            _forget(future)

    def _end(self, future: asyncio.Future[Any]) -> None:
        if not future.cancelled():
            future.exception()  # asyncio complains of one that nobody has looked at
        if future in self._left:
            timer = self._left.pop(future)
            if timer is not None:
                timer.cancel()
            self._on_end()

    def _give_up(self, future: asyncio.Future[Any], key: str) -> None:
        del self._left[future]
        _forget(future)
        _log.warning("step %r runs on after its timeout; what undoes it waits for it no longer", key)
        self._on_end()
