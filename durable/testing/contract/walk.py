"""A random walk over the verbs of two storages at once: the same calls, and after each of them the same records."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any, Final, TypeVar

from durable.callbacks import store_callback
from durable.errors import DurableError
from durable.execution import Claimed, Execution, Kind, NewExecution, Phase, Retired, Settlement, Status
from durable.fork_rows import Fork
from durable.memory import MemoryStorage
from durable.storage import ExecutionFilter, Operation, Storage
from durable.testing.clock import VirtualClock
from durable.testing.contract.subject import ContractSubject
from durable.testing.make import Maker
from durable.transitions import cancelled, complete, counted, fail, release, repeat, spawn, spawn_finalize, suspend
from durable.workflow_rows import Checkpoint, MessageKind, NewEntry, NewMessage, Published, StoredChunk, Suspension

__all__ = ["Walk", "outcome", "records_by_id"]

T = TypeVar("T")
NAMES: Final = ("task", "parent", "child")
QUEUES: Final = ("a", "b")
EXECUTORS: Final = ("executor-a", "executor-b")
ERROR: Final = '{"type": "E", "message": ""}'
ALL: Final = 1_000
"""A limit that is never reached: which of several equals a limit leaves out is nobody's promise."""


class Walk:
    """One seed's walk. The storage under test must be empty, and its clock must stand still but for `step`."""

    def __init__(self, subject: ContractSubject, model_clock: VirtualClock, seed: int) -> None:
        self._subject = subject
        self._storage: Storage = subject.handles[0]
        self._clock = model_clock
        self._model: Storage = MemoryStorage(model_clock.now)
        self._random = Random(seed)  # noqa: S311 - a seed that repeats is the point
        self._make = Maker()
        self._turns: list[Claimed] = []
        self._old: list[Claimed] = []
        """Turns that were settled once; whatever they write now is late."""
        self._ids: list[str] = []
        self._seqs: dict[str, int] = {}
        self._doors = 0
        self.done: list[str] = []
        """The verbs so far, for the message of a failure."""
        self.reached: set[Status] = set()
        """Every status that a record was seen in: a walk that reaches little proves little."""

    async def step(self) -> None:
        """One random verb on both, then a comparison of everything."""
        verbs = self._verbs()
        (verb,) = self._random.choices(list(verbs), list(verbs.values()))
        self.done.append(verb.__name__)
        await verb()
        records = await self._model.search(ExecutionFilter(), limit=ALL)
        self.reached |= {record.status for record in records}
        await self._compare("everything", lambda storage: storage.search(ExecutionFilter(), limit=ALL), records_by_id)
        await self._compare("counts", lambda storage: storage.counts(), lambda counts: {**counts})
        await self._compare("defects", lambda storage: storage.defects(limit=ALL), list)
        workflows = [record.id for record in records if record.kind is Kind.WORKFLOW]
        await self._compare("histories", lambda storage: storage.histories([(id_, 0, 0) for id_ in workflows]), list)
        for id_ in workflows[:3]:
            await self._compare("values", partial(_values, id_), list)
            await self._compare("chunks", partial(_chunks, id_), list)

    def _verbs(self) -> Mapping[Callable[[], Awaitable[None]], int]:
        """How often each is chosen, against the others."""
        return {
            self.advance: 4, self.enqueue: 5, self.claim: 8, self.settle: 9, self.settled: 1, self.renew: 1,
            self.heartbeat: 1, self.wake: 2, self.apply_wakeups: 1, self.expire_waits: 1, self.recover: 2,
            self.cancel: 1, self.pick_up_cancelled: 1, self.redrive: 1, self.claim_closes: 1, self.close_trees: 2,
            self.recover_closes: 1, self.children: 1, self.finished: 1, self.cancel_all: 1, self.claim_callback: 1,
            self.retire: 1, self.count_starts: 2, self.checkpoint: 5, self.send_messages: 4, self.fork_workflow: 1,
        }  # fmt: skip

    async def _compare(
        self, what: str, call: Callable[[Storage], Operation[T]], normal: Callable[[T], object]
    ) -> object:
        expected = await outcome(call(self._model), normal)
        actual = await outcome(call(self._storage), normal)
        assert actual == expected, f"{what} differs from memory after {self.done}"
        return expected

    def _some(self, things: Sequence[T], most: int) -> list[T]:
        return self._random.sample(things, self._random.randint(0, min(most, len(things))))

    def _held(self) -> list[tuple[str, int]]:
        """Turns that may be held, and late ones."""
        return [(turn.id, turn.fence) for turn in [*self._some(self._turns, 4), *self._some(self._old[-8:], 2)]]

    # --- verbs -----------------------------------------------------------------------------------------------

    async def advance(self) -> None:
        seconds = self._random.choice([0.25, 0.5, 1.0, 2.5, 5.0])
        await self._subject.advance(seconds)
        self._clock.advance(seconds)

    async def enqueue(self) -> None:
        rows = [self._row() for _ in range(self._random.randint(2, 5))]
        self._ids += [row.id for row in rows]
        whole = self._random.random() < 0.2
        await self._compare("enqueue", lambda storage: storage.enqueue(rows, all_or_nothing=whole), list)

    def _door(self) -> str:
        """A sleeping id: mostly a new one, at times one that is taken, or that a wake-up has already named."""
        self._doors += self._random.choice([0, 1, 1, 1])
        return f"door {self._doors}"

    def _row(self, parent: Claimed | None = None, index: int = 0) -> NewExecution:
        pick = self._random.choice
        fields: dict[str, Any] = {
            "kind": pick([*Kind, Kind.PARENT, *[Kind.WORKFLOW] * 3] if parent is None else [*Kind, *[Kind.TASK] * 5]),
            "task_name": pick(NAMES),
            "queue": pick(QUEUES),
            "priority": self._random.randint(-1, 1),
            "delay": pick([0.0, 0.0, 0.0, 0.5, 2.0]),
            "max_deliveries": self._random.randint(1, 2),
            "max_attempts": 4,
            "input": pick(['""', "null", '{"a": 1}']),
            "on_complete": self._call(),
        }
        if fields["kind"] is Kind.SLEEPING:
            fields.update(sleeping_id=self._door(), timeout=pick([None, 3.0, 3.0]))
        elif parent is None and self._random.random() < 0.3:
            fields.update(idempotency_key=pick(["k1", "k2", "k3"]), idempotency_hash=pick(["h1", "h2"]))
        if parent is None:
            return self._make.row(**fields)
        return self._make.child(parent, index, **fields, outlives_parent=index == 1)

    def _call(self) -> str | None:
        if self._random.random() < 0.7:
            return None
        pick = self._random.choice
        row = self._make.row(task_name=pick(NAMES), queue=pick(QUEUES), delay=pick([0.0, 1.0]), max_attempts=4)
        when = pick([None, [Status.COMPLETED], [Status.CANCELLED, Status.FAILED]])
        return store_callback(row, when=when, context=pick([None, '"ä\n"']), is_within=pick([True, False]))

    async def claim(self) -> None:
        options: dict[str, Any] = {
            "executor_id": self._random.choice(EXECUTORS),
            "queues": self._random.choice([QUEUES, QUEUES[::-1], QUEUES[:1]]),
            "task_names": self._random.choice([NAMES, NAMES, NAMES[:1], NAMES[1:]]),
            "limit": self._random.choice([1, 2, 5, ALL]),
            "lease": 4.0,
        }
        turns = await self._compare("claim", lambda storage: storage.claim(**options), list)
        if isinstance(turns, list):
            self._turns += turns
        if self._random.random() < 0.7:
            await self._count_starts([(turn.id, turn.fence) for turn in self._turns if turn.is_suspect])

    async def settle(self) -> None:
        by_id = {turn.id: turn for turn in [*self._some(self._old[-8:], 1), *self._some(self._turns, 6)]}
        self._turns = [turn for turn in self._turns if turn not in by_id.values()]
        self._old += by_id.values()
        settlements = [self._end(turn) for turn in by_id.values()]
        self._ids += [child.id for settlement in settlements for child in settlement.children]
        await self._compare("settle", lambda storage: storage.settle(settlements), tuple)

    def _end(self, turn: Claimed) -> Settlement:
        pick = self._random.choice
        if turn.kind is Kind.WORKFLOW:
            return self._workflow_end(turn)
        ends: list[Callable[[], Settlement]] = [
            *[lambda: complete(turn, pick(['""', "null", "[1]"]))] * (1 if turn.parent_id is None else 9),
            lambda: fail(turn, ERROR, retry_delay=None, timed_out=pick([True, False])),
            lambda: release(turn),
            *[lambda: spawn(turn, pick([None, '""']), self._children(turn))] * (3 if turn.phase is Phase.RUN else 1),
            lambda: self._make.suspension(turn),
        ]
        if turn.attempts < turn.max_attempts:
            ends.append(lambda: fail(turn, ERROR, retry_delay=pick([0.0, 1.0])))
        if turn.kind is Kind.LOOP:
            ends.append(lambda: repeat(turn, pick([0.0, 1.0]), pick([None, '"s"'])))
        if turn.phase is Phase.CHILDREN:
            ends += [lambda: spawn_finalize(turn, self._make.finalize(turn, task_name="child"))] * 5
        return pick(ends)()

    def _workflow_end(self, turn: Claimed) -> Settlement:
        pick = self._random.choice
        part = self._part(turn)
        writes = Suspension(
            **part,
            seen_messages=max(turn.message_count - pick([0, 0, 0, 1]), 0),
            wake_at_children=pick([None, 0, 0, 1]),
            delay=pick([None, None, 1.0, 5.0]),
        )
        ends: list[Callable[[], Settlement]] = [
            *[lambda: suspend(turn, writes)] * 8,
            lambda: suspend(turn, writes._replace(continued='"next"')),
            lambda: complete(turn, "1", Suspension(**part)),
            lambda: fail(turn, ERROR, retry_delay=None, writes=Suspension(**part)),
            lambda: cancelled(turn, ERROR, "asked", Suspension(**part)),
            lambda: release(turn),
        ]
        if turn.attempts < turn.max_attempts:
            ends.append(lambda: fail(turn, ERROR, retry_delay=pick([0.0, 1.0])))
        return pick(ends)()

    def _part(self, turn: Claimed) -> dict[str, Any]:
        """What a checkpoint or an end writes; the seqs go on where the last one ended, or repeat it."""
        pick = self._random.choice
        first = self._seqs.get(turn.id, 0) + 1
        entries = tuple(NewEntry(first + n, "step", f"s#{first + n}", "1", None, None) for n in range(pick([0, 1, 2])))
        self._seqs[turn.id] = first - 1 + len(entries)
        children = self._children(turn) if pick([True, False, False]) else ()
        self._ids += [child.id for child in children]
        return {
            "entries": entries,
            "children": children,
            "values": tuple((pick(["k", "l"]), pick(["1", '"ä"'])) for _ in range(pick([0, 0, 2]))),
            "chunks": tuple(pick(["1", "2"]) for _ in range(pick([0, 0, 2]))),
            "messages": tuple(self._messages(pick([0, 0, 1, 3]))),
            "cancels": tuple(self._some(self._ids, 2)) if pick([True, False, False]) else (),
        }

    def _messages(self, count: int) -> list[NewMessage]:
        pick = self._random.choice
        return [
            NewMessage(pick(self._ids), pick(list(MessageKind)), "name", "1", pick([None, None, "x", "y"]))
            for _ in range(count if self._ids else 0)
        ]

    async def checkpoint(self) -> None:
        turns = [turn for turn in [*self._turns, *self._old[-8:]] if turn.kind is Kind.WORKFLOW]
        rows = [self._checkpoint_of(turn) for turn in self._some(turns, 4)]
        await self._compare("checkpoint", lambda storage: storage.checkpoint(rows), lambda done: (done[0], done[1]))

    def _checkpoint_of(self, turn: Claimed) -> Checkpoint:
        row = Checkpoint(turn.id, turn.fence, **self._part(turn), is_progress=self._random.random() < 0.2)
        # Without chance, so that every walk goes on as it would.
        return row._replace(superseded=(self._seqs[turn.id] - 3,)) if row.is_progress else row

    async def send_messages(self) -> None:
        rows = self._messages(self._random.randint(1, 4))
        await self._compare("send_messages", lambda storage: storage.send_messages(rows), list)

    async def fork_workflow(self) -> None:
        for source in self._some(self._ids, 3):
            new = self._make.row(kind=Kind.WORKFLOW, task_name="task")
            self._ids.append(new.id)
            fork = partial(_fork, source, self._random.choice([None, 2]), new)
            await self._compare("fork_workflow", fork, bool)

    def _children(self, turn: Claimed) -> tuple[NewExecution, ...]:
        return tuple(self._row(turn, index) for index in range(self._random.choice([0, 1, 1, 2])))

    async def settled(self) -> None:
        held = self._held()
        await self._compare("settled", lambda storage: storage.settled(held), frozenset)

    async def count_starts(self) -> None:
        await self._count_starts(self._held())

    async def _count_starts(self, held: list[tuple[str, int]]) -> None:
        ids = await self._compare("count_starts", lambda storage: storage.count_starts(held), frozenset)
        assert isinstance(ids, frozenset)
        found = {pair for pair in held if pair[0] in ids}
        self._turns = [counted(t) if t.is_suspect and (t.id, t.fence) in found else t for t in self._turns]

    async def renew(self) -> None:
        held = self._held()
        await self._compare("renew", lambda storage: storage.renew(held, lease=4.0), frozenset)

    async def heartbeat(self) -> None:
        beats = [(id_, fence, '"half"') for id_, fence in self._held()]
        await self._compare("heartbeat", lambda storage: storage.heartbeat(beats), frozenset)

    async def wake(self) -> None:
        name, door = self._random.choice(NAMES), f"door {max(self._doors + self._random.randint(-4, 1), 0)}"
        ends: list[tuple[str | None, str | None]] = [('"o"', None), (None, ERROR), (None, None)]
        output, error = self._random.choice(ends)
        await self._compare("wake", lambda storage: storage.wake(name, door, output=output, error=error), tuple)
        await self._compare("sleeper", lambda storage: storage.get_sleeping(name, door), _settled_record)

    async def apply_wakeups(self) -> None:
        await self._compare("apply_wakeups", lambda storage: storage.apply_wakeups(limit=ALL), tuple)

    async def expire_waits(self) -> None:
        await self._compare("expire_waits", lambda storage: storage.expire_waits(limit=ALL), tuple)

    async def recover(self) -> None:
        await self._compare("recover", lambda storage: storage.recover(limit=ALL), sorted)

    async def cancel(self) -> None:
        ids = self._some(self._ids, 3)
        pick = self._random.choice
        options: dict[str, Any] = {"may_finish": pick([True, False]), "force": pick([True, False, False])}
        await self._compare("cancel", lambda storage: storage.cancel(ids, reason="cancelled", **options), list)

    async def cancel_all(self) -> None:
        pick = self._random.choice
        where: dict[str, Any] = {"queue": pick([None, *QUEUES]), "task_name": pick([None, *NAMES])}
        before = self._clock.now() - timedelta(seconds=pick([0.0, 10.0]))
        options: dict[str, Any] = {**where, "before": before, "may_finish": pick([True, False])}
        options["force"] = pick([True, False])
        await self._compare(
            "cancel_all", lambda storage: storage.cancel_all(**options, limit=ALL, reason="all"), sorted
        )

    async def claim_callback(self) -> None:
        records = await self._model.search(ExecutionFilter(), limit=ALL)
        for record in self._some([record.id for record in records], 3):
            turn = await self._compare(
                "claim_callback",
                lambda storage, id_=record: storage.claim_callback(id_, executor_id="executor-a", lease=4.0),  # type: ignore[misc]
                lambda found: found,
            )
            if isinstance(turn, Claimed):
                self._turns.append(turn)

    async def retire(self) -> None:
        limit, age = self._random.choice([3, ALL]), self._random.choice([5.0, 20.0])
        after = await self._retire_page(age, limit, None)
        while after is not None:
            after = await self._retire_page(age, limit, after)

    async def _retire_page(self, age: float, limit: int, after: str | None) -> str | None:
        page = await self._compare(
            "retire", lambda storage: storage.retire(older_than=age, limit=limit, after=after), lambda found: found
        )
        assert isinstance(page, Retired)
        return page.last_id

    async def pick_up_cancelled(self) -> None:
        executor_id = self._random.choice(EXECUTORS)
        await self._compare(
            "pick_up_cancelled", lambda storage: storage.pick_up_cancelled(executor_id=executor_id, limit=ALL), sorted
        )

    async def redrive(self) -> None:
        ids = self._some(self._ids, ALL)
        await self._compare("redrive", lambda storage: storage.redrive(ids), sorted)

    async def claim_closes(self) -> None:
        await self._compare("claim_closes", lambda storage: storage.claim_closes(limit=ALL, lease=3.0), sorted)

    async def close_trees(self) -> None:
        ids = list(self._ids)
        await self._compare("close_trees", lambda storage: storage.close_trees(ids, reason="parent_cancelled"), sorted)

    async def recover_closes(self) -> None:
        await self._compare("recover_closes", lambda storage: storage.recover_closes(limit=ALL), int)

    async def children(self) -> None:
        ids = self._some(self._ids, 5)
        await self._compare("children", lambda storage: storage.children(ids), sorted)

    async def finished(self) -> None:
        ids = self._some(self._ids, ALL)
        await self._compare("finished", lambda storage: storage.finished(ids), sorted)


def _values(id_: str, storage: Storage) -> Operation[list[Published]]:
    return storage.published_values(id_)


def _chunks(id_: str, storage: Storage) -> Operation[list[StoredChunk]]:
    return storage.stored_chunks(id_, after=0, limit=ALL)


def _fork(source: str, before_seq: int | None, new: NewExecution, storage: Storage) -> Operation[bool]:
    return storage.fork_workflow(source, fork=Fork(before_seq), new=new)


async def outcome(operation: Operation[T], normal: Callable[[T], object]) -> object:
    """The result in comparable form, or the class of the error: two storages may word an error differently."""
    try:
        return normal(await operation)
    except DurableError as error:
        return type(error)


def records_by_id(records: Sequence[Execution]) -> dict[str, object]:
    return {record.id: _settled_record(record) for record in records}


def _settled_record(record: Execution | None) -> object:
    """A record but for what belongs to no promise: when a storage last wrote it, and the storage's own mark."""
    return record and record._replace(updated_at=record.created_at, is_counted=False)
