"""How a case about workflows sets its stage: turns, entries, children, and what a suspension waits for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pytest

from durable.execution import Claimed, Execution, Kind, NewExecution, Settled
from durable.testing.contract.scene import CHILD, Case, Scene
from durable.testing.contract.subject import ContractSubject
from durable.transitions import suspend
from durable.workflow_rows import (
    Checkpoint,
    Checkpointed,
    History,
    MessageKind,
    NewEntry,
    NewMessage,
    Sent,
    Suspension,
)

__all__ = ["WORKFLOW", "WorkflowCase", "WorkflowScene", "entries"]

WORKFLOW: Final = "workflow"


def entries(count: int, *, first: int = 1) -> tuple[NewEntry, ...]:
    """Steps of one name, as a workflow records them, from the seq `first` on."""
    return tuple(
        NewEntry(seq, "step", f"charge#{seq}", f'{{"n": {seq}}}', None, None) for seq in range(first, first + count)
    )


class WorkflowScene(Scene):
    """A scene with the usual ways of workflows on the first handle."""

    async def begin(self, **fields: Any) -> Claimed:
        """A workflow in its first turn. No other may be ready."""
        return await self.turn(**{"task_name": WORKFLOW, "kind": Kind.WORKFLOW, **fields})

    async def begin_all(self, count: int, **fields: Any) -> list[Claimed]:
        return await self.turns(count, **{"task_name": WORKFLOW, "kind": Kind.WORKFLOW, **fields})

    async def next_turn(self) -> Claimed:
        return await self.claim_one(WORKFLOW)

    async def checkpoint(self, turn: Claimed, **fields: Any) -> Checkpointed:
        """One that is accepted."""
        done = await self.storage.checkpoint([Checkpoint(turn.id, turn.fence, **fields)])
        assert set(done.accepted) == {turn.id}
        return done

    async def suspend(self, turn: Claimed, **fields: Any) -> Settled:
        """End a turn that way; it is accepted."""
        settled = await self.storage.settle([suspend(turn, Suspension(**fields))])
        assert settled.accepted == {turn.id}
        return settled

    async def suspended(self, **fields: Any) -> Claimed:
        """A workflow whose first turn has ended that way; gives that turn."""
        turn = await self.begin()
        await self.suspend(turn, **fields)
        return turn

    async def spawned(self, count: int = 2, **child: Any) -> tuple[Claimed, tuple[NewExecution, ...]]:
        """A running workflow that has started children, and those."""
        turn = await self.begin()
        children = self.make.children(turn, count, **{"task_name": CHILD, **child})
        await self.checkpoint(turn, entries=entries(1), children=children)
        return turn, children

    def message(self, to: str, payload: str = "1", **fields: Any) -> NewMessage:
        return NewMessage(to, MessageKind.SIGNAL, "approved", payload, None)._replace(**fields)

    async def send(self, to: str, payload: str = "1", **fields: Any) -> Sent:
        (sent,) = await self.storage.send_messages([self.message(to, payload, **fields)])
        return sent

    async def history(self, id_: str, after_seq: int = 0, after_number: int = 0) -> History:
        (history,) = await self.storage.histories([(id_, after_seq, after_number)])
        return history

    async def keys(self, id_: str) -> list[str]:
        return [entry.key for entry in (await self.history(id_)).entries]

    async def payloads(self, id_: str) -> list[str]:
        return [message.payload for message in (await self.history(id_)).messages]

    async def is_due(self, record: Execution) -> bool:
        return record.due_at <= await self.subject.now()

    async def claimable(self) -> list[str]:
        """The ids of the workflows that a claim gives now."""
        return [turn.id for turn in await self.claim(WORKFLOW)]

    async def pick_up(self, turns: Sequence[Claimed] = ()) -> list[str]:
        picked = await self.storage.pick_up_cancelled(executor_id="executor-a", limit=99)
        assert not turns or picked == [turn.id for turn in turns]
        return picked


class WorkflowCase(Case):
    @pytest.fixture
    def flow(self, subject: ContractSubject) -> WorkflowScene:
        return WorkflowScene(subject)
