"""The children of one turn: which it starts, how they end, and of which ends the body has not heard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Final

from durable.child import place
from durable.codec import Codec
from durable.errors import DurableError
from durable.execution import Claimed, FinishedExecution
from durable.ids import IdSource
from durable.workflow import recorded
from durable.workflow.draft import Draft
from durable.workflow.entries import EntryKind, StartChild
from durable.workflow.fanout import MapChildren
from durable.workflow.maps import Maps
from durable.workflow.moments import Moments
from durable.workflow.pending import Pending
from durable.workflow.replay import Replay
from durable.workflow.services import WorkflowServices
from durable.workflow.waking import open_children, wake_at_children
from durable.workflow.watching import Watched, end_of_refused

__all__ = ["Family"]

_CHILD: Final = str(EntryKind.CHILD)
_CHILD_END: Final = str(EntryKind.CHILD_END)


class Family:
    """Writes nothing by itself: what is to be written goes into the draft."""

    def __init__(
        self,
        claimed: Claimed,
        replay: Replay,
        services: WorkflowServices,
        draft: Draft,
        time: Moments,
        stir: Callable[[], None],
        *,
        codec: Codec,
        ids: IdSource,
    ) -> None:
        """`stir` is called when a child has ended that is watched."""
        self._claimed = claimed
        self._replay = replay
        self._services = services
        self._draft = draft
        self._time = time
        self._codec = codec
        self._ids = ids
        self._dropped_maps: list[MapChildren] = []
        self._watched = Watched(services.watch, stir)
        self._refused: list[tuple[str, DurableError]] = []
        """Children that cannot be, by id."""
        self._placed = claimed.children_count
        self._active = claimed.active_children_count

    @cached_property
    def _maps(self) -> Maps:
        return Maps(self._claimed, self._services, self._codec, self._ids)

    @property
    def has_had_any(self) -> bool:
        return self._placed > 0

    @property
    def is_concerned(self) -> bool:
        """There may be something to collect, now or later."""
        return self._placed > 0 or self._replay.commands.has_maps

    @property
    def wake_at(self) -> int | None:
        """See `wake_at_children`."""
        return wake_at_children(self._replay.open, self._active)

    # --- beginning ------------------------------------------------------------------------------------------

    def begin(self, pending: Pending, command: StartChild) -> None:
        if pending.child_id is not None:
            return
        claimed = self._claimed
        child = place(
            command.child.new,
            execution_id=self._ids.new_id(),
            parent_id=claimed.id,
            root_id=claimed.root_id,
            index=self._placed,
            depth=claimed.depth + 1,
            is_finalize=False,
        )
        self._placed += 1
        self._active += 1
        self._draft.children.append(child)
        self._draft.add(_CHILD, pending.key, detail=recorded.of_child(child, pending.digest))

    def refuse(self, child_id: str, error: DurableError) -> None:
        """The storage will not have that child; the body hears of it as of its end."""
        self._refused.append((child_id, error))

    def let_go(self, abandoned: list[str]) -> None:
        """Children by id that the body has given up."""
        # In a replay they are those of all times, cancelled long ago, unless the turn that let go of one crashed.
        if abandoned and self._active > open_children(self._replay.open):
            self._draft.cancels += abandoned

    def drop(self, command: MapChildren) -> None:
        """A map that the body has given up."""
        self._dropped_maps.append(command)

    # --- ending ---------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Hear of the ends of those that the body waits for."""
        if self._active:
            self._watched.begin(self._replay.open)

    def close(self) -> None:
        self._watched.close()

    async def look_at_first(self) -> None:
        """What has ended before this turn."""
        if self._active < self._placed and open_children(self._replay.open):
            await self._look_for_ends()

    async def collect(self, *, has_failures: bool) -> None:
        """`has_failures`: some may have failed of which the body has not heard."""
        if self._watched:
            self._collect_watched()
        if self._refused:
            self._collect_refused()
        if has_failures:
            # They were active when this turn counted, and so need not be awaited once more.
            self._active -= await self._look_for_ends()
        if self._replay.commands.has_maps:
            await self._collect_maps(is_news=has_failures)

    def _collect_watched(self) -> None:
        ended = [
            (pending, end)
            for pending in self._replay.open
            if (end := self._watched.take_end(pending.child_id)) is not None
        ]
        # They were active when this turn counted, and so need not be awaited once more.
        self._active -= len(ended)
        self._add_ends(ended)

    def _collect_refused(self) -> None:
        refused, self._refused = self._refused, []
        by_id = {pending.child_id: pending for pending in self._replay.open if pending.child_id is not None}
        self._active -= len(refused)
        self._add_ends([(by_id[id_], end_of_refused(id_, error)) for id_, error in refused if id_ in by_id])

    async def _collect_maps(self, *, is_news: bool) -> None:
        """The next thing that each map writes; children of maps that the body has given up are cancelled."""
        for command in self._dropped_maps:
            self._draft.cancels += await self._maps.open_ids(command)
        self._dropped_maps = []
        for pending in self._replay.open:
            if isinstance(pending.command, MapChildren):
                await self._collect_map(pending, pending.command, is_news=is_news)

    async def _collect_map(self, pending: Pending, command: MapChildren, *, is_news: bool) -> None:
        is_news |= self._watched.take_news(command.watched_id)
        step = await self._maps.next(command, is_news=is_news, first_index=self._placed)
        if step is None:
            return
        self._placed += len(step.children)
        self._active += len(step.children)
        self._draft.children += step.children
        self._draft.cancels += step.cancels
        detail = {**(step.detail or {}), "at": recorded.latest(self._time.shown())}
        self._draft.add(step.kind, pending.key, step.output, None, detail)

    async def _look_for_ends(self) -> int:
        """Of the children that the row counts as ended; gives of how many."""
        told = {entry.key for entry in self._draft.new}
        by_id = {
            pending.child_id: pending
            for pending in self._replay.open
            if pending.child_id is not None and pending.key not in told
        }
        ends = await self._services.ends(list(by_id))
        self._add_ends([(by_id[end.id], end) for end in ends])
        return len(ends)

    def _add_ends(self, ends: Sequence[tuple[Pending, FinishedExecution]]) -> None:
        if ends:
            at = recorded.latest(self._time.shown())
            for pending, end in ends:
                self._draft.add(_CHILD_END, pending.key, end.output, end.error, recorded.of_child_end(end, at))
