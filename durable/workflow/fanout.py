"""A map over children as a command of a body: which items were started, how those stand, and what comes of them.

Entries alone say what the body gets: waves of children that were started, pages of their ends, and the end of the map.
What is known from looks at the children only decides when the next entry is written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple

from durable.child import Child
from durable.digests import digest
from durable.errors import SAME_ARGUMENTS, ConfigurationError, ErrorInfo, MapFailed, StepMismatch
from durable.execution import ChildOutcome, FinishedExecution, Status
from durable.workflow_rows import ChildTally

__all__ = ["MOST_ITEMS", "MapChildren", "Tolerance", "Wave", "tolerance"]

MOST_ITEMS: Final = 1_000_000
"""Of one map."""
_SHOWN_ERRORS: Final = 5


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How many of a map's children may fail: a number, or a share of all."""

    most: int = 0
    share: float | None = None
    """From 0 to 1; wins over the number."""

    def is_exceeded(self, failed: int, total: int | None) -> bool:
        """`total` None: not known yet, and a share of it neither."""
        if self.share is None:
            return failed > self.most
        return total is not None and failed > self.share * total


def tolerance(given: object) -> Tolerance:
    """What a user means by a number or by text as "5%"; raises ConfigurationError for anything else."""
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return Tolerance(given)
    if isinstance(given, str) and given.endswith("%"):
        number = given[:-1].strip()
        if number.replace(".", "", 1).isdecimal() and float(number) <= 100:
            return Tolerance(share=float(number) / 100)
    raise ConfigurationError(f'tolerate_failures is {given!r}; give a number from 0, or a share from "0%" to "100%"')


class Wave(NamedTuple):
    """Children that were started together: so many of them, from a child index on."""

    first: int
    size: int

    @property
    def end(self) -> int:
        return self.first + self.size


class MapChildren:
    """Start a child for each item, so many at a time; give what has come of them in the order of the items."""

    def __init__(
        self,
        task_name: str,
        items: Iterable[Any],
        child_of: Callable[[Any], Child[Any]],
        *,
        parent_id: str,
        total: int | None,
        concurrency: int,
        tolerance: Tolerance,
        read: Callable[[FinishedExecution], Any],
        load_error: Callable[[str], ErrorInfo],
    ) -> None:
        """`items` are iterated anew, in the same order each time; `total` None: nobody knows yet how many.

        `read` turns a child's end into what the body gets of it.
        """
        self.task_name = task_name
        self.parent_id = parent_id
        self.tolerance = tolerance
        self._total = total
        self._concurrency = concurrency
        self._items = items
        self._child_of = child_of
        self._read = read
        self._load_error = load_error
        self._begin()

    @property
    def most_at_once(self) -> int:
        return self._concurrency if self._total is None else min(self._concurrency, self._total)

    def _begin(self) -> None:
        self._iterator: Iterator[Any] | None = None
        self._behind: list[tuple[int, str | None]] = []
        """The waves that were started and whose items are still to be passed over: sizes, and digests to compare."""
        self._pulled = 0
        self.reached = 0
        """The place of the item that was looked at last: where that is refused, or iterating fails, of that one."""
        self.is_exhausted = False
        self.started = 0
        """Items whose children were started."""
        self.waves: list[Wave] = []
        """All of them in order; neighbours are one."""
        self._open: list[Wave] = []
        """Those of which some child may still be active."""
        self._known = ChildTally(0, 0, ())
        """Of the children in waves that are over."""
        self.looked = ChildTally(0, 0, ())
        """Of all children, as of the last look."""
        self.watched_id: str | None = None
        """A child about half of the others end before; somebody who waits may look when it has ended."""
        self._results: list[Any] = []
        self._broken: Exception | None = None

    # --- what the entries say ---------------------------------------------------------------------------------

    def has_wave(self, detail: str | None) -> bool:
        """A wave was started for the items that stand there now; also where that cannot be told yet."""
        said = json.loads(detail or "{}")
        first, count = said["from"], said["count"]
        if not isinstance(self._items, Sequence) or first < self._pulled:
            return True
        if first + count > len(self._items):
            return False
        return bool(said["args"] == digest(tuple(self._items[index] for index in range(first, first + count))))

    def has_total(self, output: str | None, detail: str | None) -> bool:
        """A map that has had its children has had one for each item."""
        return output is not None or self._total is None or json.loads(detail or "{}")["started"] == self._total

    def start(self, detail: str | None, *, is_same_code: bool = False) -> None:
        """A wave was started. One that another execution has started, whose history was copied, is not.

        `is_same_code`: its items must be the same when they are iterated over again.
        """
        said = json.loads(detail or "{}")
        if said["task"] != self.task_name:
            raise StepMismatch(f"a map of task {said['task']!r}", f"task {self.task_name!r}")
        if said["of"] != self.parent_id:
            return
        if said["from"] == 0 and (self.started or self._results):
            self._begin()
        wave = Wave(said["first"], said["count"])
        self.started += wave.size
        if said["from"] >= self._pulled:
            is_to_compare = is_same_code and not isinstance(self._items, Sequence)
            self._behind.append((wave.size, said["args"] if is_to_compare else None))
        self._open.append(wave)
        if self.waves and self.waves[-1].end == wave.first:
            self.waves[-1] = Wave(self.waves[-1].first, self.waves[-1].size + wave.size)
        else:
            self.waves.append(wave)

    def take_page(self, output: str | None) -> None:
        """The ends of the next children."""
        for row in json.loads(output or "[]"):
            try:
                self._results.append(self._read(FinishedExecution(row[0], Status(row[1]), row[2], row[3])))
            except Exception as error:  # a user's type that does not take what was stored
                self._broken = self._broken or error
                self._results.append(None)

    def result(self, output: str | None, detail: str | None) -> list[Any]:
        """What the body gets in the end; raises MapFailed, or what kept a result from being read."""
        said = json.loads(detail or "{}")
        if output is not None:
            errors = tuple((index, self._load_error(text)) for index, text in json.loads(output))
            raise MapFailed(self.task_name, said["failed"], said["started"], errors)
        if self._broken is not None:
            raise self._broken
        results, self._results = self._results, []
        return results

    @property
    def read_count(self) -> int:
        """Children whose ends the pages so far have given."""
        return len(self._results)

    # --- what a turn does next --------------------------------------------------------------------------------

    @property
    def open_count(self) -> int:
        """Children that have not ended, as far as is known."""
        return self.started - self.looked.finished

    @property
    def total(self) -> int | None:
        return self.started if self.is_exhausted else self._total

    @property
    def is_failed(self) -> bool:
        return self.tolerance.is_exceeded(self.looked.failed, self.total)

    @property
    def is_complete(self) -> bool:
        return self.is_exhausted and not self.open_count

    @property
    def free_count(self) -> int:
        """How many children may be started now; none before half of those that may run at once have ended."""
        is_time = self.open_count <= self._concurrency // 2
        return self._concurrency - self.open_count if is_time and not self.is_exhausted else 0

    @property
    def ends_needed(self) -> int:
        """How many of its children have to end before there is something to do. Half of the last ones, and half of
        the rest: so a failure is not noticed when all have ended only, and still not every end wakes the workflow."""
        over = self.open_count - self._concurrency // 2
        return max(1, (self.open_count + 1) // 2 if self.is_exhausted else over)

    def take_calls(self, count: int) -> tuple[list[Child[Any]], str]:
        """The next children to start, and the digest of their items; fewer than `count` where no more items are left.

        Raises what the items raise.
        """
        iterator = self.check_started()
        items: list[Any] = []
        calls: list[Child[Any]] = []
        self.reached = self._pulled
        for item in islice(iterator, count):
            items.append(item)
            calls.append(self._child_of(item))
            self.reached += 1
        self._pulled += len(calls)
        self.is_exhausted = len(calls) < count
        if self.started + len(calls) > MOST_ITEMS:
            raise ConfigurationError(f"a map takes at most {MOST_ITEMS} items; map over pages of them")
        return calls, digest(tuple(items))

    def check_started(self) -> Iterator[Any]:
        """The items whose children are still to be started.

        Raises StepMismatch where those before them are fewer than children were started for, or others.
        """
        if self._iterator is None:
            self._iterator = iter(self._items)
        self._pass_over(self._iterator)
        return self._iterator

    def _pass_over(self, iterator: Iterator[Any]) -> None:
        for size, expected in self._behind:
            items = tuple(islice(iterator, size))
            if len(items) < size:
                raise StepMismatch(f"a map of at least {self.started} items", "fewer items")
            if expected is not None and digest(items) != expected:
                raise StepMismatch(f"a map of task {self.task_name!r}", "other items", advice=SAME_ARGUMENTS)
            self._pulled += size
        self._behind = []

    @property
    def to_look_at(self) -> tuple[tuple[int, int], ...]:
        """Ranges of child indexes, from a first one up to and without an end."""
        return tuple((wave.first, wave.end) for wave in self._open)

    def look(self, tallies: Sequence[ChildTally]) -> None:
        """How the waves of `to_look_at` stand."""
        open_ids: list[str] = []
        left: list[Wave] = []
        finished, failed, _ = known = self._known
        for wave, tally in zip(self._open, tallies, strict=True):
            finished, failed = finished + tally.finished, failed + tally.failed
            open_ids += tally.open_ids
            if tally.finished < wave.size:
                left.append(wave)
            else:
                known = ChildTally(known.finished + tally.finished, known.failed + tally.failed, ())
        self._open, self._known = left, known
        self.looked = ChildTally(finished, failed, ())
        self.watched_id = open_ids[len(open_ids) // 2] if open_ids else None

    def next_page(self, limit: int) -> tuple[int, int]:
        """The child indexes, from and up to, of the children whose ends come next; at most `limit` of them."""
        skip = self.read_count
        for wave in self.waves:
            if skip < wave.size:
                return wave.first + skip, min(wave.end, wave.first + skip + limit)
            skip -= wave.size
        return 0, 0

    def item_of(self, child_index: int) -> int:
        """Which item a child was started for."""
        before = 0
        for wave in self.waves:
            if wave.first <= child_index < wave.end:
                return before + child_index - wave.first
            before += wave.size
        raise LookupError(child_index)


def first_errors(command: MapChildren, ends: Sequence[ChildOutcome]) -> list[tuple[int, ChildOutcome]]:
    """Of children that failed, by item."""
    return sorted((command.item_of(end.child_index), end) for end in ends)[:_SHOWN_ERRORS]
