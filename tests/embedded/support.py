"""Helpers of these tests: wait for a fact, look at processes and locks, drive clients in other processes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

CHECKOUT = Path(__file__).resolve().parents[2]
CLIENT = Path(__file__).with_name("client.py")
PYTHON_PATH = os.pathsep.join([str(CHECKOUT), str(Path(psycopg.__file__).parents[1])])
"""Where another interpreter finds the packages that this one runs on."""
LOCKS = ("clients.lock", "run.lock", "watch.lock", "start.lock")


def wait_until(is_true: Callable[[], object], *, limit: float = 30.0, interval: float = 0.01) -> None:
    """Return once `is_true()` is; fail after `limit` seconds."""
    end = time.monotonic() + limit
    never = threading.Event()
    while not is_true():
        assert time.monotonic() < end, f"not true within {limit:g} s"
        never.wait(interval)


def is_locked(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def list_processes() -> dict[int, tuple[int, str, str]]:
    """Process id to parent, state and command line; without ps where there is /proc, because a bare Debian lacks it."""
    if Path("/proc/self/stat").exists():
        found = ((int(path.name), _read_process(path)) for path in Path("/proc").iterdir() if path.name.isdigit())
        return {pid: process for pid, process in found if process is not None}
    columns = ["-o", "pid=", "-o", "ppid=", "-o", "stat=", "-o", "args="]
    listing = subprocess.run(["ps", "-A", "-ww", *columns], capture_output=True, text=True, check=True)
    rows = [line.split(None, 3) for line in listing.stdout.splitlines()]
    return {int(row[0]): (int(row[1]), row[2], row[3] if len(row) > 3 else "") for row in rows}


def _read_process(path: Path) -> tuple[int, str, str] | None:
    """None for a process that ended meanwhile."""
    try:
        # The name stands in parentheses, and may hold any of its own.
        state, parent = (path / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
        arguments = (path / "cmdline").read_bytes().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(parent), state, arguments.replace("\0", " ").strip()


def is_alive(pid: int) -> bool:
    """A zombie is not alive: whoever should reap it may be slow, or never do it."""
    found = list_processes().get(pid)
    return found is not None and not found[1].startswith("Z")


def parent_of(pid: int) -> int:
    return list_processes()[pid][0]


def find_processes_of(home: Path) -> list[int]:
    """The living processes that name `home` in their command line: postmasters, watchers, initdb, clients."""
    return [
        pid for pid, (_, state, args) in list_processes().items() if str(home) in args and not state.startswith("Z")
    ]


def is_gone(home: Path) -> bool:
    """No lock is held and no process is left."""
    return not any(is_locked(home / name) for name in LOCKS) and not find_processes_of(home)


def kill_all(home: Path) -> None:
    """kill -9 of everything that works for `home`: clients, watcher, postmaster and its children."""
    processes = list_processes()
    doomed = set(find_processes_of(home))
    doomed |= {pid for pid, (parent, _, _) in processes.items() if parent in doomed}
    for pid in doomed - {os.getpid()}:
        send(pid, signal.SIGKILL)


def send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it may have ended by itself in between
        os.kill(pid, number)


def clean_up(directory: Path) -> None:
    """Kill what still works below `directory` and remove the sockets that it leaves elsewhere."""
    commands = [args for _, _, args in list_processes().values() if str(directory) in args]
    kill_all(directory)
    wait_until(lambda: not find_processes_of(directory))
    traces = commands + [pid_file.read_text() for pid_file in directory.rglob("postmaster.pid")]
    for sockets in set(re.findall(r"/[\w/.-]*/durable-\d+-[0-9a-f]{12}", "\n".join(traces))):
        shutil.rmtree(sockets, ignore_errors=True)


def query(dsn: str, statement: str) -> Any:
    """The first column of the first row."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(statement.encode()).fetchone()
        return row and row[0]


def execute(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


@dataclass(frozen=True)
class ClientAccount:
    """How to run a client as some user: None means this one."""

    uid: int | None = None
    gid: int | None = None
    command: tuple[str, ...] = (sys.executable,)

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        is_switched = self.uid is not None and self.command[0] != "setpriv"
        return subprocess.Popen(
            [*self.command, "-W", "error", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": PYTHON_PATH, "PYTHONDONTWRITEBYTECODE": "1"},
            user=self.uid if is_switched else None,
            group=self.gid if is_switched else None,
            extra_groups=[] if is_switched else None,
        )

    def can_import(self) -> bool:
        try:
            probe = self.popen("-c", "import psycopg, storage_postgres.embedded")
        except OSError:
            return False
        probe.communicate()
        return probe.returncode == 0


def find_ordinary_account(uid: int, gid: int) -> ClientAccount:
    """For root: an interpreter that this unprivileged user can run, with the packages that the tests run on."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        account = ClientAccount(uid, gid, (python,))
        if account.can_import():
            return account
    # Python or the checkout is below /root: let the user read it, whatever the permissions on the way.
    capability = "+dac_override"
    switch = ("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
    account = ClientAccount(
        uid, gid, (*switch, f"--inh-caps={capability}", f"--ambient-caps={capability}", sys.executable)
    )
    assert account.can_import(), f"no way found to run {sys.executable} as the user id {uid}"
    return account


@dataclass
class Client:
    """One running client.py."""

    process: subprocess.Popen[str]
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def postmaster(self) -> int:
        return int(self.report["postmaster"])

    @property
    def dsn(self) -> str:
        return str(self.report["dsn"])

    def go(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def wait_ready(self) -> Client:
        assert self.process.stdout
        assert self.process.stderr
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        self.report = json.loads(line)
        return self

    def read_number(self) -> int:
        assert self.process.stdout
        return int(self.process.stdout.readline())

    def read_rest(self) -> list[int]:
        """What a dead client had printed, but for a line it did not finish."""
        assert self.process.stdout
        return [int(line) for line in self.process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]

    def leave(self) -> None:
        """End normally, without a release."""
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait(30) == 0

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        send(self.process.pid, number)
        self.process.wait(30)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(30)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream and not stream.closed:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
