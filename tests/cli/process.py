"""A command that runs beside the test, and is heard through its stderr."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

__all__ = ["Process"]

_PATIENCE: Final = 60.0
"""Seconds after which a process that says and does nothing is killed, so that its test fails."""


class Process:
    """A Python process of the test's own; killed when the block ends, if it has not ended by then."""

    def __init__(self, arguments: Sequence[str], *, cwd: Path, environment: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=cwd, env={**os.environ, **(environment or {})}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._limit = threading.Timer(_PATIENCE, self._process.kill)
        self._limit.daemon = True
        self.said = ""

    def __enter__(self) -> Process:
        self._limit.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._limit.cancel()
        self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def hear(self, text: str) -> str:
        """Read until a line with that text; gives the line."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.said += line
            if text in line:
                return line
        raise AssertionError(f"the process ended without saying {text!r}; it said:\n{self.said}")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        """Wait for its end, hearing what it still says; gives the exit code."""
        assert self._process.stderr is not None
        self.said += self._process.stderr.read()
        return self._process.wait()
