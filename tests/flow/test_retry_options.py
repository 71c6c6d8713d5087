"""What `retry` may be where: None says nothing, a Retry decides, and anything else is refused with what to give."""

from collections.abc import Callable
from typing import Any

import pytest

from durable import ConfigurationError, Durable, Retry, WorkflowContext, step
from durable.jobs import every

PLACES: dict[str, Callable[[Durable, Any], Any]] = {
    "task": lambda app, retry: app.task(retry=retry)(_work),
    "parent": lambda app, retry: app.parent(retry=retry)(_work),
    "loop": lambda app, retry: app.loop(max_iterations=2, retry=retry)(_work),
    "pool": lambda app, retry: app.pool("pool", retry=retry),
    "task of a pool": lambda app, retry: app.pool("pool", retry=Retry(5)).task(retry=retry)(_work),
    "child": lambda app, retry: app.task(_work).child(retry=retry),
    "continuous": lambda app, retry: app.continuous(state=int, schedule=every("1h"), retry=retry)(_handle),
    "debounce": lambda app, retry: app.debounce(event=int, flush_after="1s", retry=retry)(_handle),
    "step": lambda _, retry: step(retry=retry)(_work),
    "a call of a step": lambda _, retry: object.__new__(WorkflowContext).with_options(retry=retry),
}


async def _work() -> None: ...


async def _handle(ctx: Any) -> None: ...


@pytest.mark.parametrize("place", PLACES)
def test_retry_false_is_refused_with_what_to_give_instead(place: str) -> None:
    message = r"retry must be a Retry\(…\) or None, not False; for no retries give Retry\(1\), which starts it once"
    with pytest.raises(ConfigurationError, match=message):
        PLACES[place](Durable("memory:"), False)


@pytest.mark.parametrize("value", [True, 0, 3, "always", Retry])
@pytest.mark.parametrize("place", PLACES)
def test_anything_else_is_refused(place: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"retry must be a Retry\(…\) or None, not "):
        PLACES[place](Durable("memory:"), value)


@pytest.mark.parametrize("value", [None, Retry(1), Retry(3)])
@pytest.mark.parametrize("place", PLACES)
def test_none_and_a_policy_are_taken(place: str, value: Retry | None) -> None:
    PLACES[place](Durable("memory:"), value)


async def test_an_enqueue_refuses_it_before_anything_is_stored() -> None:
    app = Durable("memory:")
    work = app.task(_work)
    options: Any = {"retry": False}
    async with app:
        with pytest.raises(ConfigurationError, match="give Retry"):
            await work.enqueue(**options)
        assert await app.storage.counts() == {}


def test_none_leaves_it_to_the_next_that_says_something() -> None:
    app = Durable("memory:")
    pool = app.pool("pool", retry=Retry(5))
    quiet, loud = pool.task(name="quiet", retry=None)(_work), pool.task(name="loud", retry=Retry(1))(_work)
    plain = app.task(name="plain", retry=None)(_work)
    options: Any = {"retry": None}
    calls = [quiet.child(), quiet.child(retry=Retry(2)), quiet.child(**options), loud.child(), plain.child()]
    assert [call.new.max_attempts for call in calls] == [5, 2, 5, 1, 1]
    assert plain.child(pool=pool).new.max_attempts == 5
