"""Replay: a body and its history give the same commands and the same end, or it is said where the two differ."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable
from contextlib import suppress
from datetime import timedelta

import pytest

from durable import ConfigurationError, HistoryTooLong, StepFailed, StepMismatch, WorkflowContext
from durable.workflow import replay as replays
from durable.workflow.body import run_body
from durable.workflow.compare import digest_detail
from durable.workflow.entries import EntryKind
from tests.unit.replay_hand import BEGAN, Body, Hand, replay_of


def echo(value: object) -> object:
    return value


def other(value: object) -> object:
    return value


def replayed(hand: Hand, body: Body, code: str = "one") -> replays.Replay:
    replay = replay_of(body, code)
    replay.start(hand.history, hand.messages)
    return replay


def keys(replay: replays.Replay) -> list[str]:
    return [pending.key for pending in replay.open]


NAP = asyncio.sleep
"""What a body must not call with a time."""


async def test_body_has_no_loop_of_its_own() -> None:
    """A replay runs inside of a running loop as well, and leaves it as it was."""

    async def body(ctx: WorkflowContext) -> int:
        return await ctx.step(echo, 1)  # type: ignore[return-value]

    before = asyncio.current_task()
    hand = Hand(body)
    hand.answer_all()
    assert hand.replay.ended == replays.Ended(1)
    assert asyncio.current_task() is before


def test_time_chance_and_ids_are_the_same_in_a_replay() -> None:
    async def body(ctx: WorkflowContext) -> list[object]:
        seen: list[object] = [ctx.now(), ctx.random.random(), ctx.uuid()]
        for n in range(3):
            await ctx.gather(ctx.step(echo, n), ctx.sleep("1s"))
            seen += [ctx.now(), ctx.random.random(), ctx.uuid()]
        return seen

    hand = Hand(body)
    hand.answer_all()
    first = hand.replay.ended
    assert first is not None
    assert first.error is None
    assert first == replayed(hand, body).ended
    assert first.value[0] == BEGAN
    assert first.value[-3] > BEGAN


def test_steps_of_one_name_are_told_apart_by_their_occurrence() -> None:
    async def body(ctx: WorkflowContext) -> object:
        return await ctx.gather(ctx.step(echo, "a"), ctx.step(other, "b"), ctx.step(echo, "c"))

    hand = Hand(body)
    assert keys(hand.replay) == ["echo#1", "other#1", "echo#2"]
    hand.give([hand.answer(pending) for pending in reversed(list(hand.replay.open))])
    assert hand.replay.ended == replayed(hand, body).ended == replays.Ended(("a", "b", "c"))


def test_a_key_whose_kind_has_changed_is_a_mismatch_also_under_changed_code() -> None:
    async def before(ctx: WorkflowContext) -> None:
        await ctx.with_options(name="x").step(echo, 1)
        await ctx.sleep("1s")

    async def after(ctx: WorkflowContext) -> None:
        await ctx.with_options(name="x").sleep("1s")

    hand = Hand(before)
    hand.give([hand.answer(pending) for pending in hand.replay.open])
    with pytest.raises(StepMismatch) as caught:
        replayed(hand, after, "two")
    assert (caught.value.expected, caught.value.found) == ("step 'x#1'", "sleep 'x#1'")


def test_a_mismatch_is_raised_past_the_body_and_undoes_nothing() -> None:
    """Also where the body asks late for what its history has had long ago, inside of a try."""
    undone: list[str] = []

    async def before(ctx: WorkflowContext) -> None:
        await ctx.gather(ctx.step(echo, 1), ctx.with_options(name="x").step(echo, 1))
        await ctx.sleep("1h")

    async def after(ctx: WorkflowContext) -> None:
        async def late(ctx: WorkflowContext) -> None:
            ctx.on_rollback(undone.append, "undone")
            await ctx.with_options(name="new").step(echo, 1)
            await ctx.step(echo, 1)
            await ctx.with_options(name="x").sleep("1s")

        await run_body(late, None, ctx, ctx._replay, (), {}, str)

    hand = Hand(before)
    hand.give([hand.answer(pending) for pending in hand.replay.open])
    replay = replay_of(after, "two")
    replay.start(hand.history)
    assert keys(replay) == ["new#1"]
    new = next(iter(replay.open))
    with pytest.raises(StepMismatch):
        replay.deliver(hand.history[1]._replace(seq=9, key=new.key))
    assert keys(replay) == ["x#1"]
    assert undone == []


def test_the_same_code_may_not_leave_out_what_it_did() -> None:
    way = ["left"]

    async def body(ctx: WorkflowContext) -> None:
        await ctx.step(echo, 1)
        await ctx.with_options(name=way[0]).step(echo, 1)
        await ctx.sleep("1h")

    hand = Hand(body)
    for _ in range(2):
        hand.give([hand.answer(pending) for pending in hand.replay.open])
    way[0] = "right"
    with pytest.raises(StepMismatch) as caught:
        replayed(hand, body)
    assert (caught.value.expected, caught.value.found) == ("step 'left#1'", "step 'right#1'")


def test_the_same_code_may_not_end_before_its_history() -> None:
    is_short = [False]

    async def body(ctx: WorkflowContext) -> None:
        if not is_short[0]:
            await ctx.step(echo, 1)
            await ctx.sleep("1h")

    hand = Hand(body)
    hand.give([hand.answer(pending) for pending in hand.replay.open])
    is_short[0] = True
    with pytest.raises(StepMismatch) as caught:
        replayed(hand, body)
    assert (caught.value.expected, caught.value.found) == ("step 'echo#1'", "the end of the workflow")


def test_changed_code_may_leave_out_and_add_steps() -> None:
    async def before(ctx: WorkflowContext) -> object:
        return [await ctx.with_options(name=name).step(echo, name) for name in ("a", "b", "c")]

    async def after(ctx: WorkflowContext) -> object:
        return [await ctx.with_options(name=name).step(echo, name) for name in ("new", "a", "c", "d")]

    hand = Hand(before)
    hand.answer_all()
    replay = replayed(hand, after, "two")
    assert keys(replay) == ["new#1"]
    replay.deliver(hand.history[1]._replace(seq=9, key="new#1", output='"new"'))
    # What it had done before it has not to do again.
    assert keys(replay) == ["d#1"]


def test_a_patch_is_for_those_who_have_not_come_by() -> None:
    async def before(ctx: WorkflowContext) -> object:
        await ctx.step(echo, 1)
        return await ctx.step(echo, "old")

    async def after(ctx: WorkflowContext) -> object:
        await ctx.step(echo, 1)
        return await (ctx.step(other, "new") if ctx.patched("better") else ctx.step(echo, "old"))

    beyond = Hand(before)
    beyond.answer_all()
    assert replayed(beyond, after, "two").ended == replays.Ended("old")
    short_of = Hand(before)
    short_of.give([short_of.answer(pending) for pending in short_of.replay.open])
    assert keys(replayed(short_of, after, "two")) == ["patch:better#1", "other#1"]
    anew = Hand(after, "two")
    anew.answer_all()
    assert anew.replay.ended == replayed(anew, after, "two").ended == replays.Ended("new")
    # A later change keeps to what the mark says.
    assert replayed(anew, after, "three").ended == replays.Ended("new")


@pytest.mark.parametrize(("timeout", "is_met"), [(None, True), ("1h", False)])
def test_a_patch_before_a_wait_is_for_those_whose_wait_has_left_no_entry(timeout: str | None, is_met: bool) -> None:
    async def before(ctx: WorkflowContext) -> object:
        await ctx.step(echo, 1)
        return await ctx.wait_signal("go", int, timeout=timeout)

    async def after(ctx: WorkflowContext) -> object:
        await ctx.step(echo, 1)
        if ctx.patched("better"):
            await ctx.step(other, "new")
        return await ctx.wait_signal("go", int, timeout=timeout)

    hand = Hand(before)
    hand.give([hand.answer(pending) for pending in hand.replay.open])
    (wait,) = hand.replay.open
    if timeout is not None:
        until = {"until": (BEGAN + timedelta(hours=1)).isoformat(), **digest_detail(wait.digest)}
        hand.give([(EntryKind.SLEEPING, wait.key, None, None, until)])
    assert keys(replayed(hand, after, "two")) == (["patch:better#1", "other#1"] if is_met else [wait.key])


def test_a_patch_is_met_again_after_a_crash_before_its_mark() -> None:
    """Two steps end together; the body meets the patch between them, and dies before that is written."""

    async def body(ctx: WorkflowContext) -> object:
        async def one() -> object:
            await ctx.step(echo, 1)
            return await ctx.step(other, "new") if ctx.patched("better") else "old"

        return await ctx.gather(one(), ctx.step(echo, 2))

    hand = Hand(body)
    hand.give([hand.answer(pending) for pending in hand.replay.open])
    assert keys(hand.replay) == ["patch:better#1", "other#1"]
    assert keys(replayed(hand, body)) == ["patch:better#1", "other#1"]


def test_what_is_said_is_stored_once_wherever_the_run_was_cut() -> None:
    async def body(ctx: WorkflowContext) -> None:
        async def one(n: int) -> None:
            await ctx.step(echo, n)
            ctx.publish(f"key-{n}", n)
            ctx.emit(n)

        await ctx.gather(one(1), one(2))
        await ctx.sleep("1h")

    hand = Hand(body)
    hand.give([hand.answer(pending) for pending in hand.replay.open])
    said = hand.replay.outbox.take()
    assert said == ((("key-1", "1"), ("key-2", "2")), ("1", "2"))
    # Nothing of it was stored: a replay says it again.
    assert replayed(hand, body).outbox.take() == said
    # The first half was: it says the rest.
    before = next(entry.seq for entry in hand.history if entry.kind == EntryKind.STEP)
    hand.give([(EntryKind.SAID, "2", None, None, {"after": before})])
    assert replayed(hand, body).outbox.take() == ((("key-2", "2"),), ("2",))
    hand.give([(EntryKind.SAID, "4", None, None, None)])
    assert replayed(hand, body).outbox.take() == ((), ())


def test_a_message_is_met_once_and_by_the_first_who_waits() -> None:
    async def body(ctx: WorkflowContext) -> object:
        first = await ctx.wait_first(ctx.wait_signal("a", int), ctx.wait_signal("b", int))
        return [first, await ctx.wait_signal("b", int), await ctx.wait_signal("a", int)]

    hand = Hand(body)
    for name, value in (("b", 1), ("a", 2), ("b", 3), ("a", 4)):
        hand.send(name, value)
    # Both waits are met in one batch, and the body needs one: what was for the other is there for the next.
    hand.give([hand.answer(pending) for pending in hand.replay.open])
    hand.answer_all()
    assert hand.replay.ended == replayed(hand, body).ended
    assert hand.replay.ended == replays.Ended([2, 1, 4])
    assert hand.replay.unmet_messages == (3,)


def test_a_history_that_is_too_long_is_refused_but_the_undoing_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "MOST_ENTRIES", 5)
    undone: list[object] = []

    async def endless(ctx: WorkflowContext) -> None:
        ctx.on_rollback(undone.append, "undone")
        while True:
            await ctx.step(echo, 1)

    async def body(ctx: WorkflowContext) -> None:
        await run_body(endless, None, ctx, ctx._replay, (), {}, str)

    hand = Hand(body)
    hand.answer_all()
    assert hand.replay.ended is not None
    assert isinstance(hand.replay.ended.error, HistoryTooLong)
    assert undone == ["undone"]
    # Four steps beside the entry of the code, and the one that undoes.
    assert [entry.key for entry in hand.history[1:]] == ["echo#1", "echo#2", "echo#3", "echo#4", "rollback:append#1"]


def test_a_body_that_was_told_that_it_is_stuck_and_goes_on_has_the_same_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "MOST_ENTRIES", 5)

    async def endless(ctx: WorkflowContext) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        while True:
            await ctx.step(echo, 1)

    hand = Hand(endless)
    hand.give([(EntryKind.CANCEL, "stuck", None, None, {"reason": "why", "at": BEGAN.isoformat()})])
    hand.answer_all()
    assert hand.replay.ended is not None
    assert isinstance(hand.replay.ended.error, HistoryTooLong)


@pytest.mark.parametrize(("command", "most"), [("step", 20), ("sleep", 10), ("wait", 20), ("timed wait", 10)])
def test_what_a_body_waits_for_counts_with_its_history(
    monkeypatch: pytest.MonkeyPatch, command: str, most: int
) -> None:
    monkeypatch.setattr(replays, "MOST_ENTRIES", 20)

    def ask(ctx: WorkflowContext, n: int) -> Awaitable[object]:
        match command:
            case "step":
                return ctx.step(echo, n)
            case "sleep":
                return ctx.sleep("1s")
            case "wait":
                return ctx.wait_signal("x", int)
            case _:
                return ctx.wait_signal("x", int, timeout="1m")

    def begun(count: int) -> replays.Ended | None:
        async def body(ctx: WorkflowContext) -> None:
            await ctx.gather(*(ask(ctx, n) for n in range(count)))

        hand = Hand(body)
        assert keys(hand.replay) == keys(replayed(hand, body))
        return hand.replay.ended

    assert begun(most) is None
    ended = begun(most + 1)
    assert ended is not None
    assert isinstance(ended.error, HistoryTooLong)


def test_a_fan_out_of_as_much_as_may_be_comes_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "MOST_ENTRIES", 20)

    async def body(ctx: WorkflowContext) -> str:
        await asyncio.gather(*(ctx.step(echo, n) for n in range(5)), *(ctx.sleep("1s") for _ in range(7)))
        try:
            await ctx.step(echo, 0)
        except HistoryTooLong:
            return "full"
        return "not full"

    hand = Hand(body)
    hand.answer_all()
    assert len(hand.history) == 20
    assert hand.replay.ended == replayed(hand, body).ended == replays.Ended("full")


def test_a_body_that_waits_for_nothing_has_nothing_open() -> None:
    async def body(ctx: WorkflowContext) -> None:
        await asyncio.Event().wait()

    hand = Hand(body)
    assert (hand.replay.ended, keys(hand.replay)) == (None, [])


def test_a_body_that_spins_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durable.workflow.loop._MOST_CALLS", 1000)

    async def body(ctx: WorkflowContext) -> None:
        while True:
            await NAP(0)

    with pytest.raises(ConfigurationError, match="runs on without waiting"):
        Hand(body)


def test_time_and_threads_of_asyncio_are_refused_with_what_to_use() -> None:
    async def body(ctx: WorkflowContext) -> None:
        await NAP(1)

    ended = Hand(body).replay.ended
    assert ended is not None
    assert isinstance(ended.error, ConfigurationError)
    assert "ctx.sleep" in str(ended.error)


def test_a_timeout_cancels_what_it_is_around_and_nothing_after() -> None:
    async def body(ctx: WorkflowContext) -> list[str]:
        seen: list[str] = []
        for _ in range(2):
            try:
                async with ctx.timeout("1m"):
                    try:
                        await ctx.wait_signal("never", str)
                    finally:
                        # It goes on with an error of its own, and the task is as it was.
                        await ctx.step(fail, 1)
            except (TimeoutError, StepFailed) as error:
                seen.append(type(error).__name__)
        async with ctx.timeout("1m"):
            await ctx.step(echo, 1)
        try:
            async with ctx.timeout("1m"):
                await ctx.wait_signal("never", str)
        except TimeoutError:
            seen.append("TimeoutError")
        return seen

    def fail(value: object) -> object:
        return value

    hand = Hand(body)
    for _ in range(50):
        if hand.replay.ended is not None:
            break
        waiting = [pending for pending in hand.replay.open if not pending.key.startswith("signal:")]
        steps = [pending for pending in waiting if not pending.key.startswith("timeout")] or waiting
        hand.give([hand.answer(each, error="no" if each.key.startswith("fail") else None) for each in steps])
    assert hand.replay.ended == replays.Ended(["StepFailed", "StepFailed", "TimeoutError"])
    assert replayed(hand, body).ended == hand.replay.ended


def test_a_task_that_failed_and_that_nobody_awaits_fails_nothing_at_a_moment_of_chance() -> None:
    async def body(ctx: WorkflowContext) -> str:
        async def fails() -> None:
            raise ValueError("nobody looks")

        task = asyncio.create_task(fails())
        await ctx.step(echo, 1)
        del task
        gc.collect()
        await ctx.step(echo, 2)
        return "done"

    hand = Hand(body)
    hand.answer_all()
    assert hand.replay.ended == replays.Ended("done")


def test_the_tasks_of_a_group_are_cancelled_in_the_order_of_their_making() -> None:
    async def body(ctx: WorkflowContext) -> list[int]:
        ended: list[int] = []

        async def wait(n: int) -> None:
            try:
                await ctx.wait_signal("never", str)
            finally:
                ended.append(n)

        async def fail() -> None:
            await ctx.step(echo, 1)
            raise ValueError("over")

        try:
            async with asyncio.TaskGroup() as group:
                for n in range(100):
                    group.create_task(wait(n))
                group.create_task(fail())
        except* ValueError:
            pass
        return ended

    hand = Hand(body)
    hand.give([hand.answer(pending) for pending in hand.replay.open if pending.key == "echo#1"])
    assert hand.replay.ended == replays.Ended(list(range(100)))


def test_tasks_have_the_same_names_in_a_replay() -> None:
    """asyncio would name them by a count of the process."""

    async def body(ctx: WorkflowContext) -> list[str]:
        async def name() -> str:
            task = asyncio.current_task()
            assert task is not None
            return task.get_name()

        return [await asyncio.create_task(name()), await asyncio.create_task(name(), name="mine")]

    first, second = Hand(body).replay.ended, Hand(body).replay.ended
    assert first == second == replays.Ended(["Task-2", "mine"])


def test_a_body_that_raises_system_exit_ends_alone() -> None:
    async def body(ctx: WorkflowContext) -> None:
        raise SystemExit(3)

    ended = Hand(body).replay.ended
    assert ended is not None
    assert isinstance(ended.error, SystemExit)


async def test_closing_runs_what_is_left_on_the_loop_of_the_body() -> None:
    async def body(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep("1h")
        finally:
            await ctx.gather(ctx.step(echo, 1), ctx.step(echo, 2))

    hand = Hand(body)
    before = asyncio.all_tasks()
    hand.replay.close()
    assert asyncio.all_tasks() == before


def test_a_stop_reaches_a_body_once_and_not_while_it_undoes() -> None:
    done: list[str] = []

    async def work(ctx: WorkflowContext) -> None:
        ctx.on_rollback(done.append, "undone")
        try:
            await ctx.sleep("1h")
        finally:
            await ctx.step(echo, 1)

    async def body(ctx: WorkflowContext) -> None:
        await run_body(work, None, ctx, ctx._replay, (), {}, str)

    hand = Hand(body)
    stop = (EntryKind.CANCEL, "cancelled", None, None, {"reason": "why", "at": BEGAN.isoformat()})
    hand.give([stop])
    assert keys(hand.replay) == ["echo#1"]
    hand.give([hand.answer(next(iter(hand.replay.open))), stop])
    assert keys(hand.replay) == ["rollback:append#1"]
    hand.answer_all()
    assert done == ["undone"]
    assert hand.replay.ended is not None
    assert isinstance(hand.replay.ended.error, asyncio.CancelledError)
    assert str(hand.replay.stop_reason) == "why"


def test_now_moves_with_what_is_stored_alone() -> None:
    async def body(ctx: WorkflowContext) -> list[timedelta]:
        seen = [ctx.now() - BEGAN]
        await ctx.step(echo, 1)
        seen.append(ctx.now() - BEGAN)
        return seen

    hand = Hand(body)
    hand.answer_all()
    assert hand.replay.ended == replays.Ended([timedelta(0), timedelta(seconds=1)])


def test_a_message_stored_behind_the_entry_that_ended_the_body_is_not_met_in_a_replay() -> None:
    async def body(ctx: WorkflowContext) -> None:
        waiting = asyncio.create_task(ctx.wait_signal("x", int))
        await ctx.step(echo, 1)
        assert not waiting.done()
        ctx.continue_as_new()

    hand = Hand(body)
    hand.send("x", 7)
    step, wait = hand.replay.open
    hand.give([hand.answer(step), hand.answer(wait)])
    again = replay_of(body)
    again.start(hand.history, hand.messages, known=1)
    for replay in (hand.replay, again):
        assert replay.ended is not None
        assert replay.unmet_messages == (1,)
