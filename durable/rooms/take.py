"""Take: ask what claimed turns of jobs run on, in batches that fill while a question is in flight."""

from __future__ import annotations

from collections.abc import Sequence

from durable.attempts import Attempt
from durable.clock import Clock
from durable.group_commit import GroupCommit
from durable.job import TakenTurn, TurnToTake
from durable.rooms.loop import patiently
from durable.storage import Storage

__all__ = ["TakeRoom"]

_BUSY_PAUSE = 0.02
"""Seconds until a turn is asked for again whose job somebody holds."""


class TakeRoom:
    """Answers each turn alone; a turn whose job is held by a sender's transaction waits without a connection."""

    def __init__(self, *, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._asked: GroupCommit[TurnToTake, TakenTurn | None] = GroupCommit(self._ask, gathers=True)

    async def take(self, attempt: Attempt, turn: TurnToTake) -> TakenTurn | None:
        """What the turn runs on; None when the attempt has lost its lease meanwhile."""
        while not attempt.is_lost:
            taken = await self._asked.submit(turn)
            if taken is not None:
                return taken
            await self._clock.sleep(_BUSY_PAUSE)
        return None

    async def stop(self) -> None:
        """Ask no more."""
        await self._asked.cancel()

    async def _ask(self, turns: Sequence[TurnToTake]) -> list[TakenTurn | None]:
        async def take() -> list[TakenTurn]:
            return await self._storage.take_turns(turns)

        # A storage that is away must not fail a turn: its attempts are for what its handlers do.
        found = {taken.turn_id: taken for taken in await patiently(self._storage, take, "taking turns")}
        return [found.get(turn.turn_id) for turn in turns]
