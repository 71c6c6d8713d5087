"""Makes and checks execution ids: UUIDs of version 7, as lower-case text with hyphens.

An id starts with the milliseconds since 1970, so ids made later sort later and new rows go to one end of an index.
Layout (RFC 9562, section 5.7 with the monotonic random of section 6.2): 48 bits of milliseconds; 26 random bits that
are drawn once per millisecond; a 48-bit number that starts at random in each millisecond and then grows by random
steps. Two processes in the same millisecond differ in those 26 + 48 bits.
"""

from __future__ import annotations

import os
import re
import threading
import time
import weakref
from collections.abc import Callable
from itertools import accumulate, repeat
from random import Random
from typing import Final

from durable.errors import ExecutionNotFound

__all__ = ["IdSource", "known_id", "parse_id"]

_UUID: Final = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_SERIAL_LIMIT: Final = 1 << 48
_STEP_BITS: Final = 20
_LONGEST_RUN: Final = 1000
"""So many steps stay far below the half of a millisecond's serials that is free in any case."""
_SHOWN_CHARACTERS: Final = 80


class IdSource:
    """Gives ids that grow within this process, from any thread, and never repeat in a forked child.

    `random` and `now_ns` (nanoseconds since 1970) make the ids repeatable in tests. A source with its own `random`
    gives the child of a fork the same ids as its parent.
    """

    __slots__ = ("__weakref__", "_has_own_random", "_lock", "_millisecond", "_now_ns", "_prefix", "_random", "_serial")

    _lock: threading.Lock
    _millisecond: int
    _prefix: str
    _random: Random
    _serial: int

    def __init__(self, *, random: Random | None = None, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self._has_own_random = random is not None
        self._random = random or Random()  # noqa: S311 - ids must differ, they need not be hard to guess
        self._restart()
        _call_in_forked_child(weakref.WeakMethod(self._restart_in_child))

    def new_id(self) -> str:
        """Return an id greater than every earlier one of this source, also if the wall clock steps back."""
        with self._lock:
            millisecond = self._now_ns() // 1_000_000
            serial = self._serial + 1 + self._random.getrandbits(_STEP_BITS)
            if millisecond > self._millisecond or serial >= _SERIAL_LIMIT:
                serial = self._begin(max(millisecond, self._millisecond + 1))
            self._serial = serial
            return f"{self._prefix}{serial:012x}"

    def new_ids(self, count: int) -> list[str]:
        """Return so many ids, each greater than the one before it, as `new_id` gives them one by one."""
        ids: list[str] = []
        while len(ids) < count:
            ids += self._run_of_ids(min(count - len(ids), _LONGEST_RUN))
        return ids

    def _run_of_ids(self, count: int) -> list[str]:
        """Ids of one millisecond, whatever the clock does meanwhile."""
        with self._lock:
            millisecond = self._now_ns() // 1_000_000
            if millisecond > self._millisecond or self._serial + (count << _STEP_BITS) >= _SERIAL_LIMIT:
                self._serial = self._begin(max(millisecond, self._millisecond + 1))
            steps = map(self._random.getrandbits, repeat(_STEP_BITS, count))
            _, *serials = accumulate(steps, _next, initial=self._serial)
            self._serial = serials[-1]
            prefix = self._prefix
            return [f"{prefix}{serial:012x}" for serial in serials]

    def _begin(self, millisecond: int) -> int:
        """Open a millisecond; give its first serial, in the lower half so that growth has room."""
        shared = self._random.getrandbits(26)
        stamp = f"{millisecond & 0xFFFF_FFFF_FFFF:012x}"
        version = 0x7000 | shared >> 14
        variant = 0x8000 | shared & 0x3FFF
        self._millisecond = millisecond
        self._prefix = f"{stamp[:8]}-{stamp[8:]}-{version:04x}-{variant:04x}-"
        return self._random.getrandbits(47)

    def _restart(self) -> None:
        self._lock = threading.Lock()
        self._millisecond = -1
        self._serial = 0
        self._prefix = ""

    def _restart_in_child(self) -> None:
        # Another thread of the parent may have held the lock at the fork; in the child nobody would ever release it.
        if not self._has_own_random:
            self._random = Random()  # noqa: S311 - as above; the operating system gives a new seed
        self._restart()


def _next(serial: int, step: int) -> int:
    return serial + 1 + step


def _call_in_forked_child(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    """Register the method of an instance; a fork hook cannot be removed, so it must not keep the instance alive."""

    def call() -> None:
        living = method()
        if living is not None:
            living()

    os.register_at_fork(after_in_child=call)


def known_id(value: object) -> str | None:
    """As parse_id, with None for what is no UUID: for a look at many ids, of which some may be unknown."""
    try:
        return parse_id(value)
    except ExecutionNotFound:
        return None


def parse_id(value: object) -> str:
    """Return the id in its one stored form.

    Upper case and a form without hyphens are accepted. Raises TypeError if it is no str, and ExecutionNotFound if it
    is no UUID: such an id cannot exist, and the answer to it is the same as to any other unknown id.
    """
    if not isinstance(value, str):
        raise TypeError(f"an execution id is a str, not {type(value).__name__}")
    if _UUID.fullmatch(value) is None:
        raise ExecutionNotFound(value if len(value) <= _SHOWN_CHARACTERS else f"{value[:_SHOWN_CHARACTERS]}…")
    plain = value.replace("-", "").lower()
    return f"{plain[:8]}-{plain[8:12]}-{plain[12:16]}-{plain[16:20]}-{plain[20:]}"
