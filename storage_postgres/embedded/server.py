"""Start the embedded server of a directory, or join it where it runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from durable.errors import EmbeddedError
from storage_postgres.embedded.binaries import Binaries, choose_binaries, locate_binaries
from storage_postgres.embedded.deadline import Deadline
from storage_postgres.embedded.home import Home, open_home
from storage_postgres.embedded.initialise import initialise
from storage_postgres.embedded.launch import adopt, launch, read_log_end
from storage_postgres.embedded.locks import Lock, is_free
from storage_postgres.embedded.postmaster import Postmaster, find_postmaster
from storage_postgres.embedded.settings import choose_settings, find_weaker

__all__ = ["EmbeddedServer", "start"]


class EmbeddedServer:
    """One use of a running server, which runs while any process holds one; children made by fork hold their parent's.

    Dropping the object does not end the use; `release` does, and so does the end of the process, however it comes.
    """

    def __init__(self, home: Home, data: Path, postmaster: Postmaster, clients: Lock) -> None:
        self.root = home.path
        self._data = data
        self._postmaster = postmaster
        self._clients = clients

    def dsn(self, dbname: str = "postgres") -> str:
        """A libpq conninfo for the Unix socket; it stays the same when the server is started again."""
        return self._postmaster.dsn(dbname)

    def pid(self) -> int:
        """The postmaster's process id. Raises EmbeddedError when it has ended."""
        running = find_postmaster(self._data)
        if running is None or not running.is_listening():
            raise EmbeddedError(f"the embedded Postgres of {self.root} has ended; call start again")
        return running.pid

    def release(self) -> None:
        """End this use; the last one stops the server, soon after this returns. May be called twice."""
        self._clients.close()

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def start(
    root: Path | None = None,
    *,
    settings: Mapping[str, str] | None = None,
    durable: bool = True,
    timeout: float = 60.0,
) -> EmbeddedServer:
    """Use the server that keeps its data in `root`: make it if it is new, start it if it is not running.

    `root` None means ./.durable; where that cannot be used, a directory that stands for it, named by a log message.
    `settings` are server settings by name; those of the process that starts the server count, others change nothing.
    `durable` False turns off fsync and its like: for tests, whose data a crash of the machine may take.
    `timeout` is in seconds and covers all of it, also crash recovery and waiting for other processes.
    Raises EmbeddedError; the message says what to do.
    """
    if sys.platform == "win32":
        raise EmbeddedError("the embedded Postgres does not run on Windows; pass a DSN")
    deadline = Deadline(timeout)
    found = locate_binaries()
    home = open_home(root)
    binaries = choose_binaries(found, home.account)
    wanted = choose_settings(binaries, settings or {}, is_durable=durable)
    clients, starting = Lock(home.clients_lock), Lock(home.start_lock)
    try:
        if not (starting.wait_exclusive(deadline) and clients.wait_shared(deadline)):
            raise _late(home, deadline, "another process is starting or stopping it")
        data = initialise(home, binaries, starting, is_durable=durable)
        postmaster = _serve(home, binaries, data, wanted, starting, deadline)
        # Only on success: a child that outlives a failed start keeps its copy of the lock for a reason.
        starting.unlock()
    except BaseException:
        clients.close()
        raise
    finally:
        starting.close()
    return EmbeddedServer(home, data, postmaster, clients)


def _serve(
    home: Home, binaries: Binaries, data: Path, wanted: Mapping[str, str], starting: Lock, deadline: Deadline
) -> Postmaster:
    """Wait until a server answers; start one if no process of an earlier one is left.

    The caller holds `starting`, so nobody else starts one, and the clients' lock, so no watcher stops it.
    """
    is_launched = False
    while not deadline.is_over:
        if not is_free(home.run_lock):
            running = find_postmaster(data)
            if running is not None and running.is_ready():
                _join(home, data, running, wanted, starting)
                return running
        elif is_launched:
            raise EmbeddedError(f"the embedded Postgres of {home.path} ended while starting:\n{read_log_end(home)}")
        elif is_free(home.watch_lock):
            _refuse_unknown_server(data)
            is_launched = launch(home, binaries, data, wanted, starting)
        deadline.pause()
    raise _late(home, deadline, f"the end of its log is:\n{read_log_end(home)}")


def _join(home: Home, data: Path, running: Postmaster, wanted: Mapping[str, str], starting: Lock) -> None:
    weaker = find_weaker(data, wanted)
    if weaker:
        raise EmbeddedError(
            f"the embedded Postgres of {home.path} runs without {', '.join(weaker)}, because its first user asked for "
            "that (durable=False); end its users first, or choose another directory"
        )
    if is_free(home.watch_lock):
        adopt(home, data, running, starting)


def _refuse_unknown_server(data: Path) -> None:
    """A server that holds no lock of ours was started by other means, and two servers would ruin the data."""
    running = find_postmaster(data)
    if running is not None and running.is_listening():
        raise EmbeddedError(
            f"process {running.pid} serves {data} and was not started from here; stop it, or connect to it by a DSN"
        )


def _late(home: Home, deadline: Deadline, why: str) -> EmbeddedError:
    return EmbeddedError(
        f"the embedded Postgres of {home.path} did not answer within {deadline.seconds:g} s; "
        f"try again with a larger timeout; {why}"
    )
