"""Run a program as a child process: for so long at most, ended by its pid, and answered by one object."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["ProgramFailed", "measured", "ran"]

_TELL = 5
"""Lines of a failed program's last words that are shown."""
_GRACE_S = 5


class ProgramFailed(Exception):
    """A child process ended badly, said nothing that can be read, or took too long."""


async def ran(command: Sequence[str | Path], *, limit_s: float, folder: Path | None = None) -> str:
    """What `command` printed, once it has ended. Raises ProgramFailed with the last it said, or if it is not there."""
    process = await _start(command, os.environ, folder)
    try:
        async with asyncio.timeout(limit_s):
            out, err = await process.communicate()
    except TimeoutError:
        raise ProgramFailed(f"{_name(command)} took more than {limit_s:g} s") from None
    finally:
        await _end(process)
    if process.returncode:
        raise ProgramFailed(f"{_name(command)} ended with exit code {process.returncode}: {_last(err or out)}")
    return out.decode(errors="replace")


async def measured(
    command: Sequence[str | Path],
    variables: Mapping[str, str],
    *,
    limit_s: float,
    at_ready: Callable[[], Awaitable[None]] | None = None,
) -> dict[str, Any]:
    """The object on the last line that the program prints.

    Its standard input stays open until it has printed `ready` and `at_ready` has returned. Raises ProgramFailed.
    """
    process = await _start(command, {**os.environ, **variables}, None)
    assert process.stderr is not None
    said = asyncio.create_task(process.stderr.read())
    try:
        async with asyncio.timeout(limit_s):
            last = await _listen(process, at_ready)
            await process.wait()
            err = await said
    except TimeoutError:
        raise ProgramFailed(f"took more than {limit_s:g} s") from None
    finally:
        said.cancel()
        await _end(process)
    if process.returncode:
        raise ProgramFailed(f"ended with exit code {process.returncode}: {_last(err)}")
    return _object(last)


async def _start(command: Sequence[str | Path], variables: Mapping[str, str], folder: Path | None) -> Process:
    try:
        # A group of its own, so that what it starts itself ends with it.
        return await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=variables, cwd=folder, start_new_session=True,
            limit=1 << 24,
        )  # fmt: skip
    except OSError as error:
        raise ProgramFailed(f"{_name(command)} cannot be started ({error.strerror})") from error


async def _listen(process: Process, at_ready: Callable[[], Awaitable[None]] | None) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    if at_ready is None:
        process.stdin.close()
    last = b""
    async for line in process.stdout:
        if at_ready is not None and line.strip() == b"ready":
            await at_ready()
            process.stdin.close()
        last = line
    return last


async def _end(process: Process) -> None:
    """Politely, then not; nothing for one that has ended."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await process.wait()


def _object(line: bytes) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        found = {}
    if not found:
        raise ProgramFailed(f"printed no object on its last line, but {line[:80]!r}")
    return found


def _name(command: Sequence[str | Path]) -> str:
    return Path(command[0]).name


def _last(said: bytes) -> str:
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-_TELL:]) or "it said nothing"
