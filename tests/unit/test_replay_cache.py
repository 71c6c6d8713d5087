"""What is kept of workflows in memory: only what is stored as well, and only for the turn that follows."""

from __future__ import annotations

from typing import Any

from durable import WorkflowContext
from durable.workflow.cache import ReplayCache
from durable.workflow.fingerprint import fingerprint
from durable.workflow.replay import Replay
from tests.unit.replay_hand import Hand


async def waits(ctx: WorkflowContext) -> None:
    await ctx.sleep("1h")


def kept() -> Replay:
    return Hand(waits).replay


def test_the_next_turn_gets_what_was_kept_once_the_end_before_is_stored() -> None:
    cache, replay = ReplayCache(10), kept()
    cache.keep("a", 1, replay)
    cache.confirm("a", 1)
    assert cache.take("a", 3) is replay
    assert cache.take("a", 3) is None


def test_a_turn_whose_end_was_refused_leaves_nothing_to_its_successor() -> None:
    """A recovery raises the fence as the end would have done, and this executor may be the one that claims it."""
    cache = ReplayCache(10)
    cache.keep("a", 1, kept())
    assert cache.take("a", 3) is None
    cache.keep("a", 3, kept())
    cache.confirm("a", 1)
    assert cache.take("a", 5) is None


def test_a_turn_elsewhere_in_between_makes_it_worthless() -> None:
    cache = ReplayCache(10)
    cache.keep("a", 1, kept())
    cache.confirm("a", 1)
    assert cache.take("a", 5) is None


def test_those_that_wait_longest_are_let_go_first() -> None:
    cache = ReplayCache(2)
    for name in "abc":
        cache.keep(name, 1, kept())
        cache.confirm(name, 1)
    assert len(cache) == 2
    assert [cache.take(name, 3) is not None for name in "abc"] == [False, True, True]


def test_the_fingerprint_of_a_body_is_that_of_its_code_and_version() -> None:
    def made(text: str) -> Any:
        names: dict[str, Any] = {}
        exec(text, names)
        return names["body"]

    one = made("async def body(ctx): return 'a' in {'a', 'b'}")
    assert fingerprint(one, 1) == fingerprint(made("\n\nasync def body(ctx): return 'a' in {'a', 'b'}"), 1)
    assert fingerprint(one, 1) != fingerprint(one, 2)
    assert fingerprint(one, 1) != fingerprint(made("async def body(ctx): return 'b' in {'a', 'b'}"), 1)
    assert fingerprint(waits, 1) != fingerprint(kept, 1)
