"""Start the watcher of a server: one that starts the server as well, or one that takes over a running server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from durable.errors import EmbeddedError
from storage_postgres.embedded import watcher
from storage_postgres.embedded.account import clean_environment
from storage_postgres.embedded.binaries import Binaries
from storage_postgres.embedded.home import Home
from storage_postgres.embedded.locks import Lock
from storage_postgres.embedded.postmaster import Postmaster
from storage_postgres.embedded.sockets import make_socket_directory

__all__ = ["adopt", "launch", "read_log_end"]

DEFAULT_PORT = "5432"
"""Names the socket only, unless the caller's settings let the server listen on TCP."""
LARGEST_LOG = 8 * 1024 * 1024
LOG_LINES = 15


def launch(home: Home, binaries: Binaries, data: Path, settings: Mapping[str, str], starting: Lock) -> bool:
    """Start a server and its watcher. When this returns True, run.lock is held; the server may not answer yet.

    False when other processes hold the locks. The caller holds `starting`.
    """
    directory = make_socket_directory(home)
    port = settings.get("port", DEFAULT_PORT)
    forced = {"port": port, "unix_socket_directories": str(directory), "unix_socket_permissions": "0700"}
    command = [str(binaries.postgres), "-D", str(data)]
    for name, value in {**settings, **forced}.items():
        command += ["-c", f"{name}={value}"]
    work = replace(_blank(home, data, starting), socket=f"{directory}/.s.PGSQL.{port}", command=command)
    if home.account.is_switched:
        work = replace(work, uid=home.account.uid, gid=home.account.gid)
    return _run_watcher(home, work, starting)


def adopt(home: Home, data: Path, running: Postmaster, starting: Lock) -> bool:
    """Give a running server a watcher. False when it has one. The caller holds `starting`."""
    work = replace(_blank(home, data, starting), socket=running.socket, pid=running.pid)
    return _run_watcher(home, work, starting)


def read_log_end(home: Home) -> str:
    """The last lines of the server's log."""
    try:
        text = home.log.read_text(errors="replace")
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(text.splitlines()[-LOG_LINES:])


def _blank(home: Home, data: Path, starting: Lock) -> watcher.Assignment:
    return watcher.Assignment(
        clients_lock=str(home.clients_lock),
        run_lock=str(home.run_lock),
        watch_lock=str(home.watch_lock),
        start_lock_fd=starting.fd,
        socket="",
        pid_file=str(data / "postmaster.pid"),
        command=[],
        pid=0,
        uid=None,
        gid=None,
    )


def _run_watcher(home: Home, work: watcher.Assignment, starting: Lock) -> bool:
    python = _find_python()
    try:
        with _open_log(home) as log:
            done = subprocess.run(  # noqa: S603 - our own script, without a shell
                [python, "-I", "-S", watcher.__file__, json.dumps(asdict(work))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
                cwd="/",
                env=clean_environment(),
                pass_fds=[starting.fd],
                start_new_session=True,  # Ctrl-C in the client's terminal is not for the server
            )
    except OSError as error:
        raise EmbeddedError(
            f"{python} cannot watch the embedded Postgres ({error}); repair it, or pass a DSN"
        ) from error
    if done.returncode not in {0, watcher.BUSY}:
        raise EmbeddedError(
            f"the watcher of the embedded Postgres did not start, see {home.log}:\n{read_log_end(home)}"
        )
    return done.returncode == 0


@contextmanager
def _open_log(home: Home) -> Generator[int]:
    if home.log.exists() and home.log.stat().st_size > LARGEST_LOG:
        home.log.replace(home.log.with_suffix(".log.old"))
    fd = os.open(home.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def _find_python() -> str:
    """A Python to run the watcher with; sys.executable is another program where Python is embedded in one."""
    if "python" in Path(sys.executable).name.lower():
        return sys.executable
    beside = Path(sys.prefix) / "bin" / "python3"
    if beside.exists():
        return str(beside)
    raise EmbeddedError(f"no Python found to watch the embedded Postgres with (looked for {beside}); pass a DSN")
