"""What OnComplete refuses: at its declaration what is no task of one Completion, at the call what cannot be stored."""

from dataclasses import dataclass
from typing import Any

import pytest

from durable import (
    Completion,
    ConfigurationError,
    Durable,
    InvalidInput,
    OnComplete,
    SerializationError,
    TaskContext,
)

from .place import Place


@dataclass
class Order:
    id: str


async def test_a_callback_that_cannot_be_meant_is_refused_at_the_call(app: Durable, place: Place) -> None:
    @app.task
    async def done(end: Completion[int, Order]) -> None: ...

    @app.task
    def blocking(ctx: TaskContext, end: Completion[int, None]) -> None: ...

    @app.task
    async def work() -> int:
        return 1

    async with app:
        with pytest.raises(ConfigurationError, match="takes a task"):
            OnComplete(print)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="when must name"):
            OnComplete(done, context=Order("a"), when=["ended"])  # type: ignore[list-item]
        with pytest.raises(ConfigurationError, match="mode 'later'"):
            OnComplete(done, context=Order("a"), mode="later")  # type: ignore[call-overload]
        with pytest.raises(ConfigurationError, match="must be async and take a TaskContext"):
            await work.enqueue(on_complete=OnComplete(blocking, mode="transaction"))
        with pytest.raises(SerializationError, match="context"):
            await work.enqueue(on_complete=OnComplete(done, context=3))  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="on_complete is a"):
            await work.enqueue(on_complete=done)  # type: ignore[call-overload]
        with pytest.raises(InvalidInput):
            await work.enqueue(1)  # type: ignore[call-overload]
    assert place.count() == 0


def test_a_task_of_something_else_is_no_callback() -> None:
    app = Durable("memory:")

    @app.task
    async def number(i: int) -> None: ...

    @app.task
    async def two(a: int, b: int) -> None: ...

    @app.task
    async def none() -> None: ...

    @app.task
    async def with_context(ctx: TaskContext, order: Order | None) -> None: ...

    callbacks: list[Any] = [number, two, none, with_context, app.sleeping("door", int)]
    for callback in callbacks:
        with pytest.raises(ConfigurationError, match="must be a task of one Completion"):
            OnComplete(callback)


async def test_a_callback_may_say_less_of_its_argument(app: Durable, place: Place) -> None:
    @app.task
    async def bare(end: Completion) -> None: ...  # type: ignore[type-arg]

    @app.task
    async def untold(end) -> None: ...  # type: ignore[no-untyped-def]

    @app.task
    async def anything(end: Any) -> None: ...

    @app.task
    async def perhaps(ctx: TaskContext, end: Completion[int, None] | None) -> None: ...

    @app.task
    async def work() -> int:
        return 1

    callbacks: list[Any] = [bare, untold, anything, perhaps]
    async with app:
        for callback in callbacks:
            await work.enqueue(on_complete=OnComplete(callback))
    assert place.count() == len(callbacks)


async def test_an_annotation_that_is_not_there_yet_is_judged_when_it_is_stored(app: Durable, place: Place) -> None:
    @app.task
    async def early(end: "Later") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    @app.task
    async def work() -> int:
        return 1

    on_complete = OnComplete(early)
    async with app:
        with pytest.raises(ConfigurationError, match="cannot be resolved"):
            await work.enqueue(on_complete=on_complete)
        globals()["Later"] = int
        try:
            with pytest.raises(ConfigurationError, match="a task of one Completion"):
                await work.enqueue(on_complete=on_complete)
        finally:
            del globals()["Later"]
    assert place.count() == 0
