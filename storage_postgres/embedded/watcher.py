"""The parent of one postmaster: a script that stops the server when its last client has gone, however that one ended.

It knows the clients by their lock alone. It is executed by path and uses the standard library alone, to start fast.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

if sys.platform != "win32":
    import fcntl

__all__ = ["BUSY", "Assignment"]

BUSY = 75
"""The exit status that says: another watcher, or another server, holds the locks; look again."""
REPEAT_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Assignment:
    """What to watch. The first process ends once the locks are held; the one that goes on is its child."""

    clients_lock: str
    run_lock: str
    watch_lock: str
    start_lock_fd: int
    """Inherited from the client, so that nobody else starts a server before this one holds its locks."""
    socket: str
    """The path of the server's socket; its directory is removed at the end."""
    pid_file: str
    """postmaster.pid, removed before a start: a dead server leaves it, and its pid may be somebody else's by now."""
    command: list[str]
    """Starts the postmaster. Empty when it runs already and lost its watcher."""
    pid: int
    """The postmaster to adopt; 0 when there is a command."""
    uid: int | None
    gid: int | None


def main(argument: str) -> int:
    work = Assignment(**json.loads(argument))
    clients = _open(work.clients_lock)
    if _take(work.watch_lock) is None:
        return BUSY
    run = _take(work.run_lock) if work.command else None
    if work.command and run is None:
        return BUSY
    if os.fork():
        return 0
    os.close(work.start_lock_fd)
    _settle_signals()
    if run is None:
        _watch_adopted(work, clients)
    else:
        _watch_own(work, clients, run)
    _clear_sockets(work)
    with contextlib.suppress(OSError):
        Path(work.socket).parent.rmdir()
    return 0


def _watch_own(work: Assignment, clients: int, run: int) -> None:
    """Start the postmaster and return when it has ended."""
    # Holding run.lock proves that no process of an earlier server lives; without that proof these files must stay.
    Path(work.pid_file).unlink(missing_ok=True)
    _clear_sockets(work)
    postmaster = subprocess.Popen(  # noqa: S603 - the client built the command, without a shell
        work.command,
        stdin=subprocess.DEVNULL,
        cwd="/",
        pass_fds=[run],
        user=work.uid,
        group=work.gid,
        extra_groups=None if work.uid is None else [],
    )
    os.close(run)  # from here on only processes of the server hold it
    _stop_after_last_client(clients, lambda: postmaster.send_signal(signal.SIGINT))
    postmaster.wait()


def _watch_adopted(work: Assignment, clients: int) -> None:
    """Return when the last process of the server has ended."""

    def stop() -> None:
        # Only a living postmaster listens, so while it does, the pid is its own.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(work.socket)
            os.kill(work.pid, signal.SIGINT)

    _stop_after_last_client(clients, stop)
    # A blocking lock would be granted for no reason to see: clients that test the lock look at it without waiting, too.
    while _take(work.run_lock) is None:
        time.sleep(REPEAT_SECONDS)


def _stop_after_last_client(clients: int, stop: Callable[[], None]) -> None:
    def wait_and_stop() -> None:
        fcntl.flock(clients, fcntl.LOCK_EX)  # kept to the end: clients that come now wait for the server to be gone
        while True:
            # Once is not enough: a postmaster that has not set its handlers yet loses the signal.
            stop()
            time.sleep(REPEAT_SECONDS)

    def stop_once(_number: int, _frame: FrameType | None) -> None:
        stop()

    signal.signal(signal.SIGTERM, stop_once)
    threading.Thread(target=wait_and_stop, daemon=True).start()


def _settle_signals() -> None:
    """Stay when a terminal or a service manager signals the whole group; only the clients' end counts."""
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _clear_sockets(work: Assignment) -> None:
    """Remove what a killed server left; the lock file beside a socket names a pid, too."""
    for left in Path(work.socket).parent.glob(".s.PGSQL.*"):
        left.unlink(missing_ok=True)


def _open(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _take(path: str) -> int | None:
    """The descriptor of a lock that is now held, or None when another process holds it."""
    fd = _open(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
