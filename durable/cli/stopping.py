"""Turn SIGTERM and SIGINT into one orderly stop, and see to it that the process ends in any case."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final

__all__ = ["Stopping"]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """While the block lasts, the first signal calls `on_first`; a second one ends the process at once, and so does
    the passing of `limit` seconds after the first.

    A daemon thread does this: it hears the signal also while the main thread is blocked, and waits for no lock. Once
    a signal has come, leaving the block does not call the thread off: the interpreter still waits for threads of the
    process, and nothing may hold up its end. Main thread only. `on_first` runs in the thread and must not block.
    """

    def __init__(self, on_first: Callable[[], object], *, limit: float) -> None:
        self._on_first = on_first
        self._limit = limit
        self._is_installed = False
        self._was_signalled = False
        self._before: dict[int, signal.Handlers | Callable[[int, FrameType | None], object] | int | None] = {}
        self._wakeup_before = -1
        self._heard, self._told = socket.socketpair()

    def __enter__(self) -> Stopping:
        self._told.setblocking(False)
        threading.Thread(target=self._watch, name="durable-stopping", daemon=True).start()
        os.register_at_fork(after_in_child=self._reset_in_child)
        self._is_installed = True
        # The number reaches the socket from within the C handler; the Python one only has to be there.
        self._wakeup_before = signal.set_wakeup_fd(self._told.fileno(), warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, _ignore) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        if self._was_signalled:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        self._is_installed = False
        self._told.close()

    def _watch(self) -> None:
        first = self._next()
        if first is None:
            self._heard.close()
            return
        self._was_signalled = True
        self._on_first()
        self._heard.settimeout(self._limit)
        os._exit(128 + (self._next() or first))

    def _next(self) -> int | None:
        """The number of the next signal; None when the limit has passed or the block was left."""
        while True:
            try:
                heard = self._heard.recv(1)
            except TimeoutError:
                return None
            if not heard or heard[0] in _SIGNALS:
                return heard[0] if heard else None

    def _reset_in_child(self) -> None:
        """A forked child shares the socket: a signal for it must not stop its parent, and must end the child."""
        if self._is_installed:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """The thread acts upon it."""
