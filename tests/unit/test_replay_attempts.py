"""Failed attempts go when others follow, so a body must be given the same where they are gone."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from durable import Retry, WorkflowContext
from durable.workflow.entries import EntryKind
from durable.workflow_rows import Entry
from tests.unit.replay_hand import BEGAN, Hand, replay_of


def fails() -> int:
    return 0


def echo(value: int) -> int:
    return value


def _failure(hand: Hand, key: str) -> tuple[EntryKind, str, None, str, dict[str, Any]]:
    pending = next(each for each in hand.replay.open if each.key == key)
    detail = {"attempt": pending.attempts + 1, "delay": 1.0, "first_at": BEGAN.isoformat(), "args": pending.digest}
    return EntryKind.ATTEMPT, key, None, "no", detail


def _stored(hand: Hand) -> list[Entry]:
    """Without the first attempt, which a second followed."""
    attempts = [entry for entry in hand.history if entry.kind == EntryKind.ATTEMPT]
    assert len(attempts) == 2
    return [entry for entry in hand.history if entry is not attempts[0]]


async def test_what_was_said_after_an_attempt_is_counted_to_what_was_heard_before_it() -> None:
    async def body(ctx: WorkflowContext) -> None:
        failing = asyncio.ensure_future(ctx.with_options(retry=Retry(9)).step(fails))
        ctx.emit("a")
        await ctx.step(echo, 1)
        ctx.emit("b")
        await failing

    hand = Hand(body)
    hand.give([_failure(hand, "fails#1")])
    spoken, (echoing,) = hand.replay.spoken, (each for each in hand.replay.open if each.key == "echo#1")
    said = EntryKind.SAID, str(spoken.count), None, None, json.loads(spoken.detail(hand.replay.heard, 0))
    # The end of the step is written in the same checkpoint, and the body hears of it later.
    hand.give([hand.answer(echoing), said])
    hand.give([_failure(hand, "fails#1")])
    replay = replay_of(body)
    replay.start(_stored(hand))
    assert replay.outbox.chunks == ['"b"']
    assert replay.attempt_count == hand.replay.attempt_count == 2


async def test_the_body_is_told_the_same_time() -> None:
    told: list[list[Any]] = []

    async def body(ctx: WorkflowContext) -> None:
        moments: list[Any] = []
        told.append(moments)
        failing = asyncio.ensure_future(ctx.with_options(retry=Retry(9)).step(fails))
        await ctx.signal("01a1ff7b-1cef-7c86-a550-67f380a0029f", "x", 1)
        moments.append(ctx.now())
        await failing

    hand = Hand(body)
    hand.give([_failure(hand, "fails#1")])
    (sending,) = (each for each in hand.replay.open if each.key == "send:x#1")
    hand.give([hand.answer(sending)])
    hand.give([_failure(hand, "fails#1")])
    replay_of(body).start(_stored(hand))
    assert told == [[BEGAN], [BEGAN]]
