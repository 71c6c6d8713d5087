"""The executor processes of a run: started, watched, killed, frozen and thawed, each by its own process id."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from tests.faults.ledger import Event, Reader
from tests.faults.server import wait_until
from tests.faults.worker import WorkerSettings

__all__ = ["Process", "Processes"]

CHECKOUT = Path(__file__).resolve().parents[2]
STARTS_WITHIN = 60.0


class Process:
    """One worker, or a client. It is a child of this process, so its id cannot have become somebody else's."""

    def __init__(self, module: str, settings: str, log: Path) -> None:
        self.executor_id = ""
        with log.open("ab") as errors:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", module, settings],
                cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=errors, stderr=errors,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def is_alive(self) -> bool:
        return self._popen.poll() is None

    def say(self, word: str) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write(f"{word}\n".encode())
        self._popen.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        if self.is_alive:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone: no more of its statements reach the server after that."""
        self.send(signal.SIGKILL)
        self._popen.wait()
        self._close()

    def freeze(self) -> None:
        """SIGSTOP, and wait until every thread of it stands."""
        self.send(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def leave(self, within: float) -> None:
        """Let it end by itself, and kill it if it does not."""
        self._close()
        try:
            self._popen.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()

    def _close(self) -> None:
        if self._popen.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._popen.stdin.close()


class Processes:
    """All workers of a run; whatever happens, none of them outlives the block."""

    def __init__(self, settings: WorkerSettings, folder: Path, reader: Reader) -> None:
        self._settings = settings
        self._log = folder / "workers.log"
        self._reader = reader
        self._count = 0
        self.living: list[Process] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.living:
            process.thaw()
            process.kill()

    def spawn(self, *, is_clock_suspended: bool = False) -> Process:
        self._count += 1
        settings = replace(
            self._settings, seed=self._settings.seed + self._count, is_clock_suspended=is_clock_suspended
        )
        process = Process("tests.faults.worker", settings.to_json(), self._log)
        self.living.append(process)
        return process

    @contextlib.contextmanager
    def other(self, module: str, settings: str) -> Iterator[Process]:
        """A process beside the workers; it ends with the block."""
        process = Process(module, settings, self._log)
        try:
            yield process
            process.leave(20.0)
        finally:
            process.kill()

    def wait_ready(self, *processes: Process, look: Callable[[], None] | None = None) -> None:
        """Return when all of them claim; raises RuntimeError with what they said if one does not.

        `look` reads what is new in the ledgers, and gives it to `note_ready`; None: nobody else wants to know of it.
        """

        def are_ready() -> bool:
            if look is None:
                self.note_ready(self._reader.read())
            else:
                look()
            return all(process.executor_id for process in processes)

        if not wait_until(are_ready, limit=STARTS_WITHIN):
            raise RuntimeError(f"a worker did not start:\n{self.complaints()}")

    def note_ready(self, events: Iterable[Event]) -> None:
        """Learn the executor ids of the workers that have started, from what is new in their ledgers."""
        names = {event.pid: event.fields["executor"] for event in events if event.kind == "ready"}
        for process in self.living:
            process.executor_id = process.executor_id or names.get(process.pid, "")

    def remove(self, process: Process) -> None:
        self.living.remove(process)

    def leave(self, within: float = 20.0) -> None:
        """End all of them gracefully."""
        for process in self.living:
            process._close()
        for process in self.living:
            process.leave(within)
        self.living.clear()

    def complaints(self) -> str:
        """The end of what the workers logged."""
        return self._log.read_text()[-4000:] if self._log.exists() else ""
