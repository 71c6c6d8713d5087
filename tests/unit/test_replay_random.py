"""Random bodies, whose commands end in a random order, replayed from each prefix of what was written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from durable import StepFailed, WorkflowContext
from durable.workflow.compare import digest_detail
from durable.workflow.entries import EntryKind, RunStep, WaitMessage
from durable.workflow.pending import Pending
from durable.workflow.replay import Replay
from durable.workflow_rows import Entry
from tests.unit.replay_hand import BEGAN, Body, Hand, replay_of

Program = tuple[str, Any]
"""What to do, and with what: programs, or the name of a step."""

LEAVES = st.one_of(
    st.tuples(st.just("step"), st.sampled_from("ab")),
    st.tuples(st.just("fails"), st.sampled_from("ab")),
    st.tuples(st.just("sleep"), st.none()),
    st.tuples(st.just("signal"), st.sampled_from("xy")),
    st.tuples(st.just("chance"), st.none()),
    st.tuples(st.just("patch"), st.sampled_from("pq")),
    st.tuples(st.just("say"), st.none()),
)
PROGRAMS = st.recursive(
    LEAVES,
    lambda inner: st.tuples(
        st.sampled_from(["in turn", "gather", "first", "timeout", "group", "shield", "at last"]),
        st.lists(inner, min_size=1, max_size=4),
    ),
    max_leaves=14,
)


def echo(value: Any) -> Any:
    return value


def first(value: Any, *_: Any) -> Any:
    return value


class Interpreter:
    """Carries out a program with a context, and keeps a trace of the order in which it got on."""

    def __init__(self) -> None:
        self.trace: list[Any] = []

    async def run(self, ctx: WorkflowContext, program: Program) -> Any:
        what, rest = program
        do: Callable[[WorkflowContext, Any], Coroutine[Any, Any, Any]] = getattr(self, "_" + what.replace(" ", "_"))
        value = await do(ctx, rest)
        self.trace.append((what, value))
        return value

    async def _step(self, ctx: WorkflowContext, name: str) -> Any:
        chance = ctx.now(), ctx.random.random(), ctx.uuid(), len(self.trace)
        return await ctx.with_options(name=name).step(first, name, *chance)

    async def _fails(self, ctx: WorkflowContext, name: str) -> Any:
        try:
            return await ctx.with_options(name=f"fails-{name}").step(echo, name)
        except StepFailed as error:
            return error.step

    async def _sleep(self, ctx: WorkflowContext, _: Any) -> Any:
        await ctx.sleep("1m")
        return str(ctx.now() - BEGAN)

    async def _signal(self, ctx: WorkflowContext, name: str) -> Any:
        return await ctx.wait_signal(name, int)

    async def _chance(self, ctx: WorkflowContext, _: Any) -> Any:
        return [ctx.random.random(), str(ctx.uuid()), str(ctx.now() - BEGAN)]

    async def _patch(self, ctx: WorkflowContext, name: str) -> Any:
        return await self._step(ctx, "patched") if ctx.patched(name) else "old"

    async def _say(self, ctx: WorkflowContext, _: Any) -> Any:
        ctx.emit(len(self.trace))
        ctx.publish("trace", len(self.trace))

    async def _in_turn(self, ctx: WorkflowContext, programs: list[Program]) -> Any:
        return [await self.run(ctx, program) for program in programs]

    async def _gather(self, ctx: WorkflowContext, programs: list[Program]) -> Any:
        return list(await ctx.gather(*(self.run(ctx, program) for program in programs)))

    async def _first(self, ctx: WorkflowContext, programs: list[Program]) -> Any:
        return await ctx.wait_first(*(self.run(ctx, program) for program in programs))

    async def _shield(self, ctx: WorkflowContext, programs: list[Program]) -> Any:
        return await ctx.shield(self._in_turn(ctx, programs))

    async def _timeout(self, ctx: WorkflowContext, programs: list[Program]) -> Any:
        try:
            async with ctx.timeout("1m"):
                return await self._in_turn(ctx, programs)
        except TimeoutError:
            return "too late"

    async def _at_last(self, ctx: WorkflowContext, programs: list[Program]) -> Any:
        try:
            return await self._in_turn(ctx, programs)
        finally:
            await self._step(ctx, "last")

    async def _group(self, ctx: WorkflowContext, programs: list[Program]) -> Any:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.run(ctx, program)) for program in programs]
        return [task.result() for task in tasks]


def body_of(program: Program) -> tuple[Body, list[Any]]:
    interpreter = Interpreter()

    async def body(ctx: WorkflowContext) -> Any:
        return await interpreter.run(ctx, program)

    return body, interpreter.trace


@dataclass
class Stand:
    """How a replay stands."""

    open: list[str]
    trace: list[Any]
    end: str


def stand(replay: Replay, trace: list[Any]) -> Stand:
    return Stand([pending.key for pending in replay.open], list(trace), repr(replay.ended))


@dataclass
class Live:
    """A first run in an order of chance, and how it stood after each batch that was delivered."""

    hand: Hand
    trace: list[Any]
    chance: Random
    stands: dict[int, tuple[Stand, int]] = field(default_factory=dict[int, "tuple[Stand, int]"])
    """By the length of the history: the stand, and how many messages there were."""
    said: list[str] = field(default_factory=list[str])

    def run(self) -> None:
        self._note()
        while self.hand.replay.ended is None and (waiting := list(self.hand.replay.open)):
            chosen = self.chance.sample(waiting, self.chance.randint(1, min(3, len(waiting))))
            for pending in chosen:
                if isinstance(pending.command, WaitMessage):
                    self.hand.send(pending.command.name, len(self.hand.messages))
            # Who waited first gets the message, whoever was chosen.
            met = [pending for pending, _ in self.hand.replay.messages_met()]
            rest = [pending for pending in chosen if not isinstance(pending.command, WaitMessage)]
            batch = [self._answer(pending) for pending in [*rest, *met]]
            self.chance.shuffle(batch)
            if self.chance.random() < 0.05:
                batch.insert(0, (EntryKind.CANCEL, "cancelled", None, None, {"reason": "", "at": BEGAN.isoformat()}))
            self.hand.give(batch)
            self._store_said()
            self._note()

    def _answer(self, pending: Pending) -> Any:
        is_failing = pending.key.startswith("fails")
        if isinstance(pending.command, RunStep) and is_failing and pending.attempts < 4 and self.chance.random() < 0.5:
            detail = {"attempt": pending.attempts + 1, "delay": 1.0, "first_at": BEGAN.isoformat()}
            detail |= digest_detail(pending.digest)
            return EntryKind.ATTEMPT, pending.key, None, "no", detail
        return self.hand.answer(pending, error="no" if is_failing else None)

    def _store_said(self) -> None:
        """Now and then what the body has said goes out with a checkpoint."""
        replay = self.hand.replay
        if self.chance.random() < 0.5 and (taken := replay.outbox.take())[1]:
            self.said += taken[1]
            detail = json.loads(replay.spoken.detail(replay.heard, 0))
            self.hand.give([(EntryKind.SAID, str(replay.spoken.count), None, None, detail)])

    def _note(self) -> None:
        self.stands[len(self.hand.history)] = stand(self.hand.replay, self.trace), len(self.hand.messages)


def stored(history: list[Entry]) -> list[Entry]:
    """Without the failures of steps that others came after, as a storage has it."""
    last = {entry.key: entry.seq for entry in history if entry.kind == EntryKind.ATTEMPT}
    return [entry for entry in history if entry.kind != EntryKind.ATTEMPT or last[entry.key] == entry.seq]


@settings(max_examples=150, deadline=None)
@given(program=PROGRAMS, seed=st.integers(0, 2**32))
def test_a_replay_of_each_prefix_stands_where_the_first_run_stood(program: Program, seed: int) -> None:
    body, trace = body_of(program)
    live = Live(Hand(body), trace, Random(seed))
    live.run()
    assert live.hand.replay.ended is not None or live.stands
    for length, (expected, message_count) in live.stands.items():
        again, trace = body_of(program)
        replay = replay_of(again)
        replay.start(stored(live.hand.history[:length]), live.hand.messages[:message_count])
        assert stand(replay, trace) == expected
        replay.close()
    live.hand.replay.close()


@settings(max_examples=60, deadline=None)
@given(program=PROGRAMS, seed=st.integers(0, 2**32))
def test_what_was_streamed_and_what_a_replay_streams_is_everything_once(program: Program, seed: int) -> None:
    body, trace = body_of(program)
    live = Live(Hand(body), trace, Random(seed))
    live.run()
    whole = [*live.said, *live.hand.replay.outbox.chunks]
    again, _ = body_of(program)
    replay = replay_of(again)
    replay.start(stored(live.hand.history), live.hand.messages)
    assert [*live.said, *replay.outbox.chunks] == whole
    replay.close()
    live.hand.replay.close()
