"""What is kept of workflows in memory: only what is stored as well, for the turn that follows, and within bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from durable import WorkflowContext
from durable.workflow.cache import ReplayCache
from durable.workflow.fingerprint import fingerprint
from durable.workflow.footprint import footprint
from durable.workflow.replay import Replay
from tests.unit.hand_clock import HandClock
from tests.unit.replay_hand import Body, Hand

_A_MIB: Final = 1024 * 1024


async def waits(ctx: WorkflowContext) -> None:
    await ctx.sleep("1h")


async def waits_for_much(ctx: WorkflowContext) -> None:
    await ctx.gather(*(ctx.wait_signal(f"s{number}", str) for number in range(100)))


def report(length: int) -> str:
    return "x" * length


def kept(body: Body = waits) -> Replay:
    return Hand(body).replay


def with_results(*lengths: int, on_close: Callable[[], object] = lambda: None) -> Replay:
    """Waits after steps whose results are so long."""

    async def body(ctx: WorkflowContext) -> None:
        try:
            for length in lengths:
                await ctx.step(report, length)
            await ctx.wait_signal("go", str)
        finally:
            on_close()

    hand = Hand(body)
    for _ in lengths:
        (step,) = hand.replay.open
        hand.give([hand.answer(step)])
    return hand.replay


def cache_of(clock: HandClock | None = None, *, seconds: float = 10.0, most_bytes: int = _A_MIB) -> ReplayCache:
    return ReplayCache(clock or HandClock(), seconds=seconds, most_bytes=most_bytes)


def there(cache: ReplayCache, names: str, fence: int = 1) -> str:
    """Those that the next turn gets, who are not there any more then."""
    for name in names:
        cache.confirm(name, fence)
    return "".join(name for name in names if cache.take(name, fence + 2) is not None)


def test_the_next_turn_gets_what_was_kept_once_the_end_before_is_stored() -> None:
    cache, replay = cache_of(), kept()
    cache.keep("a", 1, replay)
    cache.confirm("a", 1)
    assert cache.take("a", 3) is replay
    assert cache.take("a", 3) is None


def test_a_turn_whose_end_was_refused_leaves_nothing_to_its_successor() -> None:
    """A recovery raises the fence as the end would have done, and this executor may be the one that claims it."""
    cache = cache_of()
    cache.keep("a", 1, kept())
    assert cache.take("a", 3) is None
    cache.keep("a", 3, kept())
    cache.confirm("a", 1)
    assert cache.take("a", 5) is None


def test_a_turn_elsewhere_in_between_makes_it_worthless() -> None:
    cache = cache_of()
    cache.keep("a", 1, kept())
    cache.confirm("a", 1)
    assert cache.take("a", 5) is None


def test_those_that_have_waited_too_long_are_let_go() -> None:
    clock = HandClock()
    cache = cache_of(clock)
    for name in "abc":
        cache.keep(name, 1, kept())
        clock.now += 4
    cache.let_go()
    assert (len(cache), there(cache, "abc")) == (2, "bc")


def test_those_that_have_waited_too_long_are_let_go_when_another_begins_to_wait() -> None:
    clock = HandClock()
    cache = cache_of(clock)
    cache.keep("a", 1, kept())
    clock.now += 10
    cache.keep("b", 1, kept())
    assert (len(cache), there(cache, "ab")) == (1, "b")


def test_who_goes_on_and_waits_again_begins_anew() -> None:
    clock = HandClock()
    cache = cache_of(clock)
    cache.keep("a", 1, kept())
    cache.keep("b", 1, kept())
    clock.now += 6
    cache.confirm("a", 1)
    replay = cache.take("a", 3)
    assert replay is not None
    cache.keep("a", 3, replay)
    clock.now += 6
    cache.let_go()
    assert (there(cache, "b"), there(cache, "a", 3)) == ("", "a")


def test_none_is_kept_for_no_time() -> None:
    cache = cache_of(seconds=0)
    cache.keep("a", 1, kept())
    assert len(cache) == 0


def test_one_that_wakes_later_than_it_would_be_kept_is_not_kept() -> None:
    cache, closed = cache_of(), list[str]()
    cache.keep("a", 1, with_results(on_close=lambda: closed.append("a")), wakes_in=10.1)
    assert (len(cache), closed) == (0, ["a"])
    cache.keep("b", 1, kept(), wakes_in=9.9)
    assert there(cache, "b") == "b"


def test_where_memory_is_short_those_that_wait_longest_are_let_go_and_closed() -> None:
    cache, closed = cache_of(most_bytes=100_000), list[str]()
    for name in "abcde":
        cache.keep(name, 1, with_results(1000, on_close=lambda name=name: closed.append(name)))  # type: ignore[misc]
    assert closed == ["a"]
    assert there(cache, "abcde") == "bcde"


def test_one_with_much_counts_as_much_as_many_with_little() -> None:
    cache = cache_of(most_bytes=100_000)
    for name in "abcd":
        cache.keep(name, 1, kept())
    cache.keep("e", 1, with_results(*[1000] * 7))
    assert there(cache, "abcde") == "cde"


def test_one_that_takes_more_than_all_may_is_not_kept_and_drives_nobody_out() -> None:
    cache, closed = cache_of(most_bytes=100_000), list[str]()
    cache.keep("a", 1, kept())
    cache.keep("b", 1, with_results(20_000, on_close=lambda: closed.append("b")))
    assert (closed, there(cache, "ab")) == (["b"], "a")


def test_what_is_taken_or_given_up_counts_no_more() -> None:
    cache = cache_of(most_bytes=30_000)
    for fence in range(1, 20, 2):
        cache.keep("a", fence, kept())
        cache.keep("b", fence, kept())
        cache.confirm("a", fence)
        assert cache.take("a", fence + 2) is not None
        assert cache.take("b", fence + 2) is None
    cache.clear()
    cache.keep("c", 1, kept())
    cache.keep("d", 1, kept())
    assert there(cache, "cd") == "cd"


def test_the_estimate_grows_with_what_was_met_what_is_waited_for_and_the_messages() -> None:
    little = footprint(kept())
    assert 10_000 < little < 20_000
    assert footprint(kept(waits_for_much)) - little == 99 * 3_000
    assert 80_000 < footprint(with_results(10_000)) - little < 90_000
    assert footprint(with_results(*[1] * 1000)) > little + 50_000
    hand = Hand(waits)
    hand.send("nobody waits for it", "x" * 10_000)
    assert 80_000 < footprint(hand.replay) - little < 90_000


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
