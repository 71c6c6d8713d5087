"""Lock files: the only facts about other processes that survive a reused pid, a zombie and a kill -9.

The kernel keeps a flock for as long as one copy of the descriptor is open, so a dead process never holds one. Children
made by fork share their parent's lock; programs that are executed do not, unless the descriptor is handed to them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from durable.errors import EmbeddedError
from storage_postgres.embedded.deadline import Deadline

if sys.platform != "win32":
    import fcntl

__all__ = ["Lock", "is_free"]


class Lock:
    """One open lock file, not locked yet. Every Lock excludes every other one, also within one process."""

    def __init__(self, path: Path) -> None:
        """Raises EmbeddedError when the file belongs to another user."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise EmbeddedError(
                f"the lock file {path} cannot be opened ({error.strerror}); another user may have made it: "
                "run as that user, choose another directory, or pass a DSN"
            ) from error
        self._open = [fd]

    @property
    def fd(self) -> int:
        return self._open[0]

    def try_shared(self) -> bool:
        return self._try(fcntl.LOCK_SH)

    def try_exclusive(self) -> bool:
        return self._try(fcntl.LOCK_EX)

    def wait_shared(self, deadline: Deadline) -> bool:
        """True once the lock is held; False when the deadline came first."""
        return self._wait(fcntl.LOCK_SH, deadline)

    def wait_exclusive(self, deadline: Deadline) -> bool:
        """True once the lock is held; False when the deadline came first."""
        return self._wait(fcntl.LOCK_EX, deadline)

    def unlock(self) -> None:
        """Give the lock up for all copies of the descriptor, also those in forked children."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close this copy of the descriptor; copies in other processes keep the lock.

        May be called twice, and from any thread.
        """
        try:
            fd = self._open.pop()
        except IndexError:
            return
        os.close(fd)

    def _wait(self, mode: int, deadline: Deadline) -> bool:
        while not self._try(mode):
            if deadline.is_over:
                return False
            deadline.pause()
        return True

    def _try(self, mode: int) -> bool:
        try:
            fcntl.flock(self.fd, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def is_free(path: Path) -> bool:
    """Whether no process holds the lock; holds it itself for a moment to find out."""
    lock = Lock(path)
    try:
        if not lock.try_exclusive():
            return False
        # A thread that forks right now would otherwise leave its child holding the lock.
        lock.unlock()
        return True
    finally:
        lock.close()
