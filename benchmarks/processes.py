"""Start a module of the benchmarks in a process of its own, which reads lines and writes lines."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

__all__ = ["spawn"]

_REPOSITORY: Final = Path(__file__).resolve().parent.parent


async def spawn(module: str, *arguments: str, dsn: str) -> asyncio.subprocess.Process:
    """The process, with pipes to its stdin and from its stdout; the DSN goes by the environment, as arguments show."""
    path = os.pathsep.join(filter(None, (str(_REPOSITORY), os.environ.get("PYTHONPATH"))))
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, "DURABLE_DSN": dsn},
    )  # fmt: skip
