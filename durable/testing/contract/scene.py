"""How a case of the contract sets its stage: rows made, claimed and brought into any status by the verbs themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest

from durable.execution import DEFAULT_QUEUE, Claimed, Execution, Kind, NewExecution, Phase, QueueLevel, Settled, Status
from durable.storage import ExecutionFilter, Storage
from durable.testing.contract.subject import ContractSubject
from durable.testing.make import Maker
from durable.transitions import complete, counted, fail, release, spawn, spawn_finalize

__all__ = ["CHILD", "EXECUTOR", "FINALIZE", "LEASE", "LIMIT", "PARENT", "TASK", "Case", "Family", "Scene"]

TASK: Final = "task"
PARENT: Final = "parent"
CHILD: Final = "child"
FINALIZE: Final = "finalize"
EXECUTOR: Final = "executor-a"
LEASE: Final = 15.0
LIMIT: Final = 30.0
"""Seconds after which a call that should not wait is taken for hanging. Nothing is decided by it otherwise."""


@dataclass(frozen=True, slots=True)
class Family:
    """A parent that waits for its children."""

    parent: Claimed
    children: tuple[NewExecution, ...]
    settled: Settled

    @property
    def id(self) -> str:
        return self.parent.id

    @property
    def child_ids(self) -> list[str]:
        return [child.id for child in self.children]


class Scene:
    """One test's store, a maker of rows, and the usual ways through the verbs on the first handle."""

    def __init__(self, subject: ContractSubject) -> None:
        self.subject = subject
        self.storage: Storage = subject.handles[0]
        self.make = Maker(task_name=TASK)

    async def enqueue(self, **fields: Any) -> str:
        """One row, stored; gives its id."""
        return (await self.enqueue_all(1, **fields))[0]

    async def enqueue_all(self, count: int, **fields: Any) -> list[str]:
        rows = self.make.rows(count, **fields)
        results = await self.storage.enqueue(rows)
        assert [(result.is_new, result.is_conflict) for result in results] == [(True, False)] * count
        return [row.id for row in rows]

    async def claim(
        self,
        *task_names: str,
        limit: int = 10_000,
        queues: Sequence[str] = (DEFAULT_QUEUE,),
        executor_id: str = EXECUTOR,
        lease: float = LEASE,
        handle: int = 0,
        after: Mapping[QueueLevel, str] | None = None,
        starts: bool = True,
    ) -> list[Claimed]:
        """What is ready and due under these names; without names, the plain task's. `starts`: suspects as well."""
        turns = await self.subject.handles[handle].claim(
            executor_id=executor_id, queues=queues, task_names=task_names or (TASK,), limit=limit, lease=lease,
            after=after,
        )  # fmt: skip
        return await self.begun(turns) if starts else turns

    async def begun(self, turns: Sequence[Claimed]) -> list[Claimed]:
        """The turns as an executor has them when it starts them."""
        suspects = [(turn.id, turn.fence) for turn in turns if turn.is_suspect]
        if suspects:
            assert await self.storage.count_starts(suspects) == {id_ for id_, _ in suspects}
        return [counted(turn) if turn.is_suspect else turn for turn in turns]

    async def turn(self, **fields: Any) -> Claimed:
        """One row, enqueued and claimed. Nothing else of its name may be ready."""
        await self.enqueue(**fields)
        return await self.claim_one(fields.get("task_name", TASK))

    async def turns(self, count: int, **fields: Any) -> list[Claimed]:
        await self.enqueue_all(count, **fields)
        turns = await self.claim(fields.get("task_name", TASK))
        assert len(turns) == count
        return turns

    async def claim_one(self, task_name: str = TASK, **options: Any) -> Claimed:
        (turn,) = await self.claim(task_name, **options)
        return turn

    async def family(self, count: int = 2, *, child: dict[str, Any] | None = None, **fields: Any) -> Family:
        """A parent that has spawned `count` ready children and waits for them."""
        parent = await self.turn(**{"task_name": PARENT, "kind": Kind.PARENT, **fields})
        children = self.make.children(parent, count, **{"task_name": CHILD, **(child or {})})
        settled = await self.storage.settle([spawn(parent, '{"own": 1}', children)])
        assert settled.accepted == {parent.id}
        return Family(parent, children, settled)

    async def finalizing(self, count: int = 1) -> tuple[Family, NewExecution]:
        """A parent whose children have completed and whose finalize execution is ready."""
        family = await self.family(count)
        await self.complete_all(await self.claim(CHILD))
        parent = await self.claim_one(PARENT)
        finalize = self.make.finalize(parent, task_name=FINALIZE)
        await self.storage.settle([spawn_finalize(parent, finalize)])
        return family, finalize

    async def complete_all(self, turns: Sequence[Claimed], output: str = "1") -> Settled:
        settled = await self.storage.settle([complete(turn, output) for turn in turns])
        assert settled.accepted == {turn.id for turn in turns}
        return settled

    async def get(self, id_: str) -> Execution:
        (record,) = await self.storage.get([id_])
        assert record is not None, f"execution {id_} is not stored"
        return record

    async def get_all(self, ids: Sequence[str]) -> list[Execution]:
        records = [record for record in await self.storage.get(ids) if record is not None]
        assert len(records) == len(ids)
        return records

    async def status_of(self, id_: str) -> Status:
        return (await self.get(id_)).status

    async def everything(self) -> dict[str, Execution]:
        records = await self.storage.search(ExecutionFilter(), limit=100_000)
        return {record.id: record for record in records}

    async def close_everything(self) -> None:
        """Run the close pipeline until it has nothing left."""
        while ids := await self.storage.claim_closes(limit=1_000, lease=LEASE):
            await self.storage.close_trees(ids, reason="parent_cancelled")

    async def assert_sound(self) -> None:
        """No record breaks an invariant."""
        assert await self.storage.defects(limit=1_000) == []

    # --- any status ------------------------------------------------------------------------------------------

    async def in_status(self, status: Status) -> str:
        """The id of a root in that status, brought there by verbs."""
        return await self._ways[status]()

    async def in_every_status(self) -> dict[Status, str]:
        """One root in each status. Those that leave something claimable behind come last."""
        leave_work = [Status.WAITING_FOR_FINALIZE, Status.WAITING_FOR_CHILDREN, Status.READY]
        order = [*(status for status in Status if status not in leave_work), *leave_work]
        return {status: await self.in_status(status) for status in order}

    @property
    def _ways(self) -> dict[Status, Callable[[], Awaitable[str]]]:
        return {
            Status.READY: self.enqueue,
            Status.RUNNING: self._running,
            Status.WAITING: self._waiting,
            Status.WAITING_FOR_CHILDREN: self._waiting_for_children,
            Status.WAITING_FOR_FINALIZE: self._waiting_for_finalize,
            Status.COMPLETED: self._completed,
            Status.FAILED: self._failed,
            Status.TIMED_OUT: self._timed_out,
            Status.FINALIZE_FAILED: self._finalize_failed,
            Status.CANCELLED: self._cancelled,
        }

    async def _running(self) -> str:
        return (await self.turn()).id

    async def _waiting(self) -> str:
        row = self.make.sleeper("sleeper")
        await self.storage.enqueue([row])
        return row.id

    async def _waiting_for_children(self) -> str:
        return (await self.family()).id

    async def _waiting_for_finalize(self) -> str:
        return (await self.finalizing())[0].id

    async def _completed(self) -> str:
        turn = await self.turn()
        await self.complete_all([turn])
        return turn.id

    async def _failed(self) -> str:
        turn = await self.turn()
        await self.storage.settle([fail(turn, ERROR, retry_delay=None)])
        return turn.id

    async def _timed_out(self) -> str:
        turn = await self.turn()
        await self.storage.settle([fail(turn, ERROR, retry_delay=None, timed_out=True)])
        return turn.id

    async def _finalize_failed(self) -> str:
        turn = await self.later_turn()
        await self.storage.settle([fail(turn, ERROR, retry_delay=None)])
        return turn.id

    async def _cancelled(self) -> str:
        id_ = await self.enqueue()
        await self.storage.cancel([id_], reason="cancelled")
        return id_

    async def later_turn(self) -> Claimed:
        """A turn in the phase that follows the children; there were none."""
        parent = await self.turn(task_name=PARENT, kind=Kind.PARENT)
        await self.storage.settle([spawn(parent, None, ())])
        turn = await self.claim_one(PARENT)
        assert turn.phase is Phase.CHILDREN
        return turn

    async def gone(self, turn: Claimed) -> None:
        """Take a turn away from its executor, so that its fence is gone and the record is ready again."""
        settled = await self.storage.settle([release(turn)])
        assert settled.accepted == {turn.id}


ERROR: Final = '{"type": "ValueError", "message": "no"}'


class Case:
    """Base of every part of the contract: the fixture that turns a subject into a scene."""

    @pytest.fixture
    def scene(self, subject: ContractSubject) -> Scene:
        return Scene(subject)
