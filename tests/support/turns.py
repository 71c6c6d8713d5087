"""Gives the event loop its turns until something holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.support.locks import PATIENCE

__all__ = ["until"]


async def until(holds: Callable[[], bool]) -> None:
    """Raises TimeoutError where it does not come to hold."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if holds():
                return
            await asyncio.sleep(0)
