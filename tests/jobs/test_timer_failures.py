"""Timers whose tasks raise what is not retried, or say when to be tried again, and options that no timer keeps to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from durable import ConfigurationError, Durable, NonRetryable, Retry, RetryAfter
from durable.testing import VirtualStorage, app_under_test

from .timing import Notes


def raising(error: Callable[[], BaseException], times: int = 1) -> Any:
    """The first starts raise."""
    left = [times]

    async def act(ctx: object, text: str) -> None:
        if left[0] > 0:
            left[0] -= 1
            raise error()

    return act


@pytest.mark.parametrize("way", ["NonRetryable", "in a group"])
async def test_what_is_not_retryable_ends_the_timer_for_good(app: Durable, storage: VirtualStorage, way: str) -> None:
    def error() -> BaseException:
        refused = NonRetryable("the account is closed")
        return refused if way == "NonRetryable" else ExceptionGroup("several", [refused])

    notes = Notes(app, storage, raising(error))
    async with app_under_test(app, storage=storage) as kit:
        timer = await app.timers.every("1m", notes.child("a"), owner="o")
        await app.timers.after("5m", notes.child("b"), owner="o")
        await kit.clock.advance("1h")
        assert notes.fired == [("a", 60.0), ("b", 300.0)]
        kept = await app.timers.get(timer.id)
        assert kept is not None
        assert (kept.failed, kept.attempt, kept.due_at) == (True, 1, timer.due_at)
        assert kept.last_error is not None
        assert kept.last_error.type in ("NonRetryable", "ExceptionGroup")
        assert await app.timers.list(owner="o") == [kept]
        (failed,) = kit.events("job.failed")
        assert (failed.data["will_retry"], failed.data["timer_id"], failed.key) == (False, timer.id, "o")
        assert "retry_in_s" not in failed.data
        assert await app.timers.cancel(timer.id)
        assert await app.timers.get(timer.id) is None


async def test_a_slot_that_holds_a_failed_timer_can_be_set_again(app: Durable, storage: VirtualStorage) -> None:
    notes = Notes(app, storage, raising(lambda: NonRetryable("no")))
    async with app_under_test(app, storage=storage) as kit:
        await app.timers.after(0, notes.child("a"), owner="o", name="alarm")
        await kit.drain()
        found = await app.timers.named("alarm", owner="o")
        assert found is not None
        assert found.failed
        await app.timers.after(0, notes.child("b"), owner="o", name="alarm")
        await kit.drain()
        assert [text for text, _ in notes.fired] == ["a", "b"]
        assert await app.timers.named("alarm", owner="o") is None


async def test_a_task_that_continues_with_other_arguments_ends_its_timer(app: Durable, storage: VirtualStorage) -> None:
    starts: list[int] = []

    @app.task
    async def copy(page: int) -> None:
        starts.append(page)
        raise copy.continue_with(page + 1)

    async with app_under_test(app, storage=storage) as kit:
        timer = await app.timers.after(0, copy.child(1), owner="o")
        await kit.clock.advance("1h")
        assert starts == [1]
        kept = await app.timers.get(timer.id)
        assert kept is not None
        assert kept.last_error is not None
        assert (kept.failed, kept.last_error.type) == (True, "NonRetryable")
        assert "continue_with" in kept.last_error.message


async def test_a_task_says_when_it_is_tried_again(app: Durable, storage: VirtualStorage) -> None:
    notes = Notes(app, storage, raising(lambda: RetryAfter("5m"), times=2))
    async with app_under_test(app, storage=storage) as kit:
        await app.timers.after(0, notes.child("a"), owner="o", retry_interval="10s")
        await kit.clock.advance("1h")
        assert [at for _, at in notes.fired] == [0.0, 300.0, 600.0]


@pytest.mark.parametrize(
    "options",
    [{"delay": "5m"}, {"retry": Retry(3)}, {"max_deliveries": 2}, {"on_parent_close": "abandon"}],
    ids=lambda options: next(iter(options)),
)
async def test_what_a_timer_cannot_keep_to_is_refused(
    app: Durable, storage: VirtualStorage, options: dict[str, Any]
) -> None:
    @app.task(delay="1h", retry=Retry(2), max_deliveries=3)
    async def work() -> None: ...

    async with app_under_test(app, storage=storage):
        with pytest.raises(ConfigurationError, match=f"a timer does not use {next(iter(options))}"):
            await app.timers.after("1m", work.child(**options), owner="o")
        await app.timers.after("1m", work.child(priority=3, timeout="1s", queue="default"), owner="o")
        assert len(await app.timers.list(owner="o")) == 1
