"""A task that goes on with other arguments: the same execution, one turn after another."""

import pytest

from durable import Continue, Durable, ExecutionFailed, InvalidInput, Retry, TaskContext
from durable.errors import DurableError
from durable.kinds import task

from .place import PATIENCE, Place, running, until


async def test_a_task_goes_on_with_the_arguments_it_names_until_it_returns(app: Durable, place: Place) -> None:
    seen: list[tuple[int, int, int]] = []

    @app.task
    async def pages(ctx: TaskContext, cursor: int, total: int = 0) -> int:
        seen.append((ctx.iteration, ctx.attempt, cursor))
        if cursor < 5:
            raise pages.continue_with(cursor + 1, total=total + cursor)
        return total

    async with running(app):
        handle = await pages.enqueue(1)
        assert await handle.result(PATIENCE) == 10
        record = await handle.execution()
    assert seen == [(turn, 1, turn + 1) for turn in range(5)]
    assert (record.iteration, record.input, record.run_output) == (4, '{"cursor":1}', None)
    assert place.count() == 1


async def test_a_sync_task_goes_on_too(app: Durable) -> None:
    @app.task
    def pages(cursor: int) -> int:
        if cursor < 3:
            raise pages.continue_with(cursor + 1)
        return cursor

    async with running(app):
        assert await (await pages.enqueue(0)).result(PATIENCE) == 3


async def test_each_turn_has_all_attempts_and_a_retry_keeps_its_arguments(app: Durable) -> None:
    seen: list[tuple[int, int]] = []

    @app.task(retry=Retry(2, 0))
    async def pages(ctx: TaskContext, cursor: int) -> int:
        seen.append((cursor, ctx.attempt))
        if ctx.attempt == 1:
            raise ValueError
        if cursor < 2:
            raise pages.continue_with(cursor + 1)
        return cursor

    async with running(app):
        assert await (await pages.enqueue(0)).result(PATIENCE) == 2
    assert seen == [(cursor, attempt) for cursor in range(3) for attempt in (1, 2)]


async def test_a_failed_one_goes_on_where_it_was_when_it_is_retried_by_hand(app: Durable) -> None:
    seen: list[int] = []
    is_broken = True

    @app.task
    async def pages(cursor: int) -> int:
        seen.append(cursor)
        if cursor < 2:
            raise pages.continue_with(cursor + 1)
        if is_broken:
            raise ValueError
        return cursor

    async with running(app):
        handle = await pages.enqueue(0)
        with pytest.raises(ExecutionFailed):
            await handle.result(PATIENCE)
        is_broken = False
        await app.storage.redrive([handle.execution_id])
        record = await until(app, handle.execution_id, lambda record: record.is_finished)
        assert await handle.result(0) == 2
    assert (seen, record.iteration) == ([0, 1, 2, 2], 2)


async def test_bad_arguments_fail_the_attempt(app: Durable) -> None:
    @app.task
    async def pages(cursor: int) -> int:
        with pytest.raises(InvalidInput):
            pages.continue_with("x")  # type: ignore[arg-type]
        return 1

    async with running(app):
        assert await (await pages.enqueue(0)).result(PATIENCE) == 1


async def test_only_a_plain_task_goes_on_and_only_as_itself(app: Durable) -> None:
    @app.task
    async def other() -> int:
        return 1

    @app.task
    async def confused() -> int:
        raise other.continue_with()

    async with running(app):
        with pytest.raises(ExecutionFailed, match="must be its own"):
            await (await confused.enqueue()).result(PATIENCE)


async def test_the_turns_are_bounded(app: Durable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "MOST_TURNS", 3)
    turns = 0

    @app.task(retry=Retry(9, 0))
    async def pages() -> int:
        nonlocal turns
        turns += 1
        raise pages.continue_with()

    async with running(app):
        with pytest.raises(ExecutionFailed, match="it has taken 3 turns"):
            await (await pages.enqueue()).result(PATIENCE)
    assert turns == 3


async def test_a_careless_handler_does_not_swallow_it(app: Durable) -> None:
    @app.task
    async def pages(cursor: int) -> int:
        try:
            if cursor == 0:
                raise pages.continue_with(1)
        except Exception:
            return -1
        return cursor

    async with running(app):
        assert await (await pages.enqueue(0)).result(PATIENCE) == 1
    assert not issubclass(Continue, DurableError)
