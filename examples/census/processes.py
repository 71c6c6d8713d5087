"""Executor processes: start one, learn its id, kill it or let it end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import IO

from durable import DurableError

__all__ = ["ExecutorFailed", "ExecutorProcess", "start_executor"]

_REPOSITORY = Path(__file__).resolve().parents[2]
_START_LIMIT = 60.0
_END_LIMIT = 20.0


class ExecutorFailed(DurableError):
    """An executor process ended before it was asked to."""


class ExecutorProcess:
    """One executor in a process of its own. Its log goes to a file, shown when something is wrong."""

    def __init__(self, process: Process, executor_id: str, log: IO[bytes]) -> None:
        self._process = process
        self.executor_id = executor_id
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        if self._process.returncode is not None:
            raise ExecutorFailed(_obituary(self._process, self._log))

    def freeze(self) -> None:
        """Stop it where it stands, so that what it holds can be counted."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL: it gets no chance to say or to give back anything."""
        self._process.kill()
        await self._process.wait()

    async def end(self) -> None:
        """Let it end by itself, or make it."""
        if self._process.returncode is None:
            assert self._process.stdin is not None
            self.thaw()
            self._process.stdin.close()
            try:
                async with asyncio.timeout(_END_LIMIT):
                    await self._process.wait()
            except TimeoutError:
                await self.kill()
        self._log.close()


async def start_executor(schema: str, dsn: str | None) -> ExecutorProcess:
    """Start one and wait until it claims. The DSN goes by the environment: arguments are there for all to see."""
    path = os.pathsep.join(filter(None, (str(_REPOSITORY), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path} | ({} if dsn is None else {"DURABLE_DSN": dsn})
    log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
    # A session of its own: an interrupt from the keyboard is for the parent, which then closes the pipe.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "examples.census.executor", schema,
        stdin=PIPE, stdout=PIPE, stderr=log, env=environment, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_START_LIMIT):
            executor_id = (await process.stdout.readline()).decode().strip()
            if not executor_id:
                await process.wait()
                raise ExecutorFailed(_obituary(process, log))
    except BaseException:
        if process.returncode is None:
            process.kill()
        raise
    return ExecutorProcess(process, executor_id, log)


def _obituary(process: Process, log: IO[bytes]) -> str:
    log.seek(0)
    last = log.read().decode(errors="replace").splitlines()[-5:]
    return f"executor process {process.pid} ended with code {process.returncode}: " + "\n".join(last)
