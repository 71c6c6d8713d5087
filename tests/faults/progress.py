"""How far a run is, on standard error, so that standard output holds nothing but the report."""

from __future__ import annotations

import sys
import time

__all__ = ["Progress"]

_WIDTH = 30
_EVERY = 0.2


class Progress:
    """A bar that is drawn over itself on a terminal, and a line now and then elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._began = time.monotonic()
        self._shown_at = 0.0

    def show(self, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if now - self._shown_at < (_EVERY if self._is_terminal else 10.0):
            return
        self._shown_at = now
        filled = _WIDTH * done // max(total, 1)
        bar = "#" * filled + "." * (_WIDTH - filled)
        text = f"[{bar}] {done}/{total}  {note}  {now - self._began:.0f} s"
        sys.stderr.write(f"\r\x1b[K{text}" if self._is_terminal else f"{text}\n")
        sys.stderr.flush()

    def say(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}\n" if self._is_terminal else f"{text}\n")
        sys.stderr.flush()
