"""What a turn does for its maps: start the next wave of children, look how they stand, and read how they ended."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final, NamedTuple

from durable.child import place
from durable.codec import Codec
from durable.errors import StepMismatch
from durable.execution import FINISHED, Claimed, NewExecution, Status
from durable.ids import IdSource
from durable.workflow.entries import EntryKind
from durable.workflow.fanout import MapChildren, first_errors
from durable.workflow.services import WorkflowServices

__all__ = ["MapStep", "Maps"]

_PAGE: Final = 1000
"""Ends that are read, and kept in one entry."""


class MapStep(NamedTuple):
    """What a map writes next."""

    kind: EntryKind
    output: str | None = None
    detail: dict[str, Any] | None = None
    children: tuple[NewExecution, ...] = ()
    cancels: tuple[str, ...] = ()


class Maps:
    """Of one turn. Nothing is kept here: how far a map is stands in its command."""

    def __init__(self, claimed: Claimed, services: WorkflowServices, codec: Codec, ids: IdSource) -> None:
        self._claimed = claimed
        self._services = services
        self._codec = codec
        self._ids = ids
        self._seen: set[MapChildren] = set()

    async def next(self, command: MapChildren, *, is_news: bool, first_index: int) -> MapStep | None:
        """The next thing that a map writes; None: it has to wait.

        `is_news`: some of its children may have ended since this was asked the last time. `first_index` is the child
        index of the next child to start.
        """
        if command.started and (is_news or command not in self._seen):
            await self._look(command)
        self._seen.add(command)
        if command.is_failed:
            return await self._failed(command)
        if command.free_count:
            started = self._started(command, first_index)
            if isinstance(started, Exception):
                return await self._refused(command, started)
            if started is not None:
                return started
        return await self._read(command) if command.is_complete else None

    async def open_ids(self, command: MapChildren) -> tuple[str, ...]:
        """The children of a map that have not ended."""
        if not command.to_look_at:
            return ()
        tallies = await self._services.tallies(self._claimed.id, command.to_look_at)
        command.look(tallies)
        return tuple(id_ for tally in tallies for id_ in tally.open_ids)

    async def _look(self, command: MapChildren) -> None:
        if command.to_look_at:
            command.look(await self._services.tallies(self._claimed.id, command.to_look_at))

    def _started(self, command: MapChildren, first_index: int) -> MapStep | Exception | None:
        """The next wave; None where no items are left, and the error where the items or one of them are no good."""
        try:
            calls, digest = command.take_calls(command.free_count)
        except StepMismatch:
            raise
        except Exception as error:  # what a user iterates over may raise what it likes
            return error
        if not calls:
            return None
        claimed = self._claimed
        children = tuple(
            place(
                call.new,
                execution_id=self._ids.new_id(),
                parent_id=claimed.id,
                root_id=claimed.root_id,
                index=first_index + index,
                depth=claimed.depth + 1,
                is_finalize=False,
            )
            for index, call in enumerate(calls)
        )
        command.watched_id = children[len(children) // 2].id
        detail = {
            "task": command.task_name,
            "of": claimed.id,
            "from": command.started,
            "first": first_index,
            "count": len(children),
            "args": digest,
        }
        return MapStep(EntryKind.WAVE, detail=detail, children=children)

    async def _read(self, command: MapChildren) -> MapStep:
        """The ends of the next children in order; the end of the map once all are read."""
        if command.read_count == command.started:
            return MapStep(EntryKind.MAPPED, detail={"failed": command.looked.failed, "started": command.started})
        first, end = command.next_page(_PAGE)
        ends = await self._services.children_between(self._claimed.id, first, end, only_failed=False, limit=_PAGE)
        if len(ends) != end - first:
            raise LookupError(f"{end - first} children of {self._claimed.id} were to be read, {len(ends)} are stored")
        rows = [[each.id, str(each.status), each.output, self._without_traceback(each.error)] for each in ends]
        return MapStep(EntryKind.PAGE, json.dumps(rows))

    async def _failed(self, command: MapChildren) -> MapStep:
        """Too many have failed: the end of the map names the first of them, and the others are cancelled."""
        found: list[tuple[int, Any]] = []
        for wave in command.waves:
            if len(found) < _PAGE:
                ends = await self._services.children_between(
                    self._claimed.id, wave.first, wave.end, only_failed=True, limit=5
                )
                found += first_errors(command, ends)
        errors = [(index, self._without_traceback(end.error) or self._unknown(end.status)) for index, end in found[:5]]
        return await self._end(command, command.looked.failed, errors)

    async def _refused(self, command: MapChildren, error: Exception) -> MapStep:
        stored = self._codec.dump_error(error, is_retryable=False)
        return await self._end(command, 0, [(command.reached, self._without_traceback(stored) or stored)])

    async def _end(self, command: MapChildren, failed: int, errors: list[tuple[int, str]]) -> MapStep:
        detail = {"failed": failed, "started": command.started}
        return MapStep(EntryKind.MAPPED, json.dumps(errors), detail, cancels=await self.open_ids(command))

    def _without_traceback(self, error: str | None) -> str | None:
        """Those of many children would make a history too long; the children's own records keep them."""
        if error is None:
            return None
        info = replace(self._codec.load_error(error), traceback=None)
        return self._codec.dump_error(info, is_retryable=info.is_retryable)

    def _unknown(self, status: Status) -> str:
        assert status in FINISHED
        return self._codec.dump_error(RuntimeError(f"it ended as {status} without an error"), is_retryable=False)
