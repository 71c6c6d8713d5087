"""What clients ask for: results, waits, keys, many at once, and executions that are not there."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from durable import (
    Durable,
    ExecutionFailed,
    ExecutionNotFound,
    IdempotencyConflict,
    InvalidInput,
    NotOpen,
    PayloadCodec,
    PayloadTooLarge,
    Registry,
    ResultTimeout,
    SleepingIdConflict,
    Spawn,
    Status,
    Task,
    UnknownTask,
)

from .place import PATIENCE, MemoryPlace, Place, running, soon

NOBODY = "01900000-0000-7000-8000-000000000000"


async def test_a_result_can_be_awaited_before_and_after_the_end_by_many_handles(app: Durable) -> None:
    @app.task
    async def work() -> int:
        return 7

    async with app:
        handle = await work.enqueue()
        early = [asyncio.ensure_future(handle.result(PATIENCE)) for _ in range(10)]
        async with app.executor(poll_interval="50ms"):
            assert await asyncio.gather(*early) == [7] * 10
        assert await work.handle(handle.execution_id).result(PATIENCE) == 7
        assert await app.handle_of(handle.execution_id.upper().replace("-", ""), "work").result(0) == 7


async def test_a_timeout_of_zero_looks_once(app: Durable) -> None:
    @app.task
    async def work() -> int:
        return 7

    async with app:
        handle = await work.enqueue()
        with pytest.raises(ResultTimeout):
            await handle.result(0)
        async with app.executor(poll_interval="50ms"):
            await handle.result(PATIENCE)
        assert await handle.result(0) == 7


async def test_a_wait_that_is_over_leaves_the_execution_alone(app: Durable) -> None:
    @app.task
    async def work() -> int:
        return 7

    async with app:
        handle = await work.enqueue()
        with pytest.raises(ResultTimeout, match=r"has not finished within 0.02 s; it goes on") as caught:
            await handle.result("20ms")
        assert isinstance(caught.value, TimeoutError)
        async with app.executor(poll_interval="50ms"):
            assert await handle.result(PATIENCE) == 7


async def test_what_does_not_exist_is_not_found(app: Durable) -> None:
    @app.task
    async def work() -> int:
        return 7

    async with app:
        handle = work.handle(NOBODY)
        looks: list[Awaitable[Any]] = [handle.result(PATIENCE), handle.result(0), handle.status(), handle.execution()]
        for look in looks:
            with pytest.raises(ExecutionNotFound, match=NOBODY):
                await look
        assert await handle.children() == []
        with pytest.raises(ExecutionNotFound):
            work.handle("x" * 1000)
        with pytest.raises(TypeError):
            work.handle(5)  # type: ignore[arg-type]
        with pytest.raises(UnknownTask):
            app.handle_of(NOBODY, "nobody registered this")
        with pytest.raises(ExecutionNotFound):
            await app.wait([handle], timeout=PATIENCE)


async def test_waiting_for_many_tells_the_finished_from_the_unfinished(app: Durable) -> None:
    @app.task
    async def work(n: int) -> int:
        if n == 3:
            raise ValueError
        return n

    async with running(app):
        handles = await work.enqueue_many(range(10))
        later = await work.enqueue(10, delay="1h")
        assert await app.wait(handles, timeout=PATIENCE) == ({handle.execution_id for handle in handles}, set())
        assert await app.wait([handles[3], later], timeout=0) == ({handles[3].execution_id}, {later.execution_id})
        assert await app.wait([later], timeout="20ms") == (set(), {later.execution_id})
        assert await app.wait([]) == (set(), set())
        assert await app.wait([handles[0], handles[0]]) == ({handles[0].execution_id}, set())


async def test_a_waiter_that_is_cancelled_leaves_the_others_waiting(app: Durable) -> None:
    @app.task
    async def work() -> int:
        return 7

    async with app:
        handle = await work.enqueue()
        first, second = (asyncio.ensure_future(handle.result(PATIENCE)) for _ in range(2))
        await handle.status()
        first.cancel()
        async with app.executor(poll_interval="50ms"):
            assert await second == 7
        assert first.cancelled()


async def test_closing_the_app_tells_those_who_still_wait(app: Durable) -> None:
    @app.task
    async def work() -> int:
        return 7

    async with app:
        handle = await work.enqueue()
        waiter = asyncio.ensure_future(handle.result(PATIENCE))
        await handle.status()
    with pytest.raises(NotOpen):
        await soon(waiter)


async def test_a_key_gives_the_same_execution_for_the_same_input(app: Durable, place: Place) -> None:
    @app.task
    async def work(order: dict[str, int]) -> int:
        return sum(order.values())

    async with running(app):
        first = await work.enqueue({"a": 1, "b": 2}, idempotency_key="order-1")
        again = await work.enqueue({"b": 2, "a": 1}, idempotency_key="order-1")
        assert first.execution_id == again.execution_id
        assert await first.result(PATIENCE) == 3
        after = await work.enqueue({"a": 1, "b": 2}, idempotency_key="order-1")
        assert await after.result(0) == 3
    assert place.count() == 1


async def test_a_key_with_another_input_is_a_conflict(app: Durable, place: Place) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    @app.task
    async def other(n: int) -> int:
        return -n

    async with app:
        first = await work.enqueue(1, idempotency_key="order-1")
        with pytest.raises(IdempotencyConflict) as caught:
            await work.enqueue(2, idempotency_key="order-1")
        assert (caught.value.execution_id, caught.value.key, caught.value.task) == (
            first.execution_id,
            "order-1",
            "work",
        )
        await other.enqueue(2, idempotency_key="order-1")
    assert place.count() == 2


async def test_twenty_at_once_with_one_key_make_one_execution(place: Place) -> None:
    ran: list[int] = []
    apps = [place.app(), place.app()]
    for app in apps:

        @app.task(name="work")
        async def work(n: int) -> int:
            ran.append(n)
            return n

    async with apps[0], apps[1]:
        handles = await asyncio.gather(
            *(_enqueue(apps[n % 2], 5, idempotency_key="once") for n in range(20)),
        )
        assert len({handle.execution_id for handle in handles}) == 1
        async with apps[0].executor(poll_interval="50ms"):
            assert await handles[0].result(PATIENCE) == 5
    assert (place.count(), ran) == (1, [5])


async def _enqueue(app: Durable, n: int, **options: Any) -> Any:
    return await Task(app["work"], app.home).enqueue(n, **options)


async def test_of_twenty_at_once_with_one_key_and_many_inputs_one_wins(app: Durable, place: Place) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    async with app:
        results = await asyncio.gather(
            *(work.enqueue(n, idempotency_key="once") for n in range(20)), return_exceptions=True
        )
    conflicts = [result for result in results if isinstance(result, IdempotencyConflict)]
    assert (len(conflicts), place.count()) == (19, 1)


async def test_ten_thousand_at_once(app: Durable, place: Place) -> None:
    seen: set[int] = set()

    @app.task
    async def work(n: int) -> None:
        seen.add(n)

    async with app:
        handles = await work.enqueue_many(range(10_000))
        assert len({handle.execution_id for handle in handles}) == place.count() == 10_000
        if place.name == "postgres":
            async with app.executor(poll_interval="50ms"):
                done, left = await app.wait(handles, timeout=PATIENCE)
            assert (len(done), left, len(seen)) == (10_000, set(), 10_000)


async def test_many_are_stored_all_or_none(app: Durable, place: Place) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    @app.task
    async def other(text: str) -> str:
        return text

    async with running(app):
        with pytest.raises(InvalidInput, match=r"task 'work': inputs\[2\]: "):
            await work.enqueue_many([1, 2, "x"])  # type: ignore[list-item]
        late = [*range(15_000), "x", *range(5_000), "y"]
        with pytest.raises(InvalidInput, match=r"task 'work': inputs\[15000\]: "):
            await work.enqueue_many(late)  # type: ignore[arg-type]
        with app.client() as client, pytest.raises(InvalidInput, match=r"inputs\[15000\]"):
            client.enqueue_many(work, late)  # type: ignore[arg-type]
        with pytest.raises(PayloadTooLarge, match=r"^inputs\[1\]") as caught:
            await other.enqueue_many(["", "x" * 5_000_000])
        assert caught.value.path.startswith("inputs[1]")
        assert place.count() == 0
        sleep = app.sleeping("sleep", int)
        await sleep.enqueue("taken")
        with pytest.raises(SleepingIdConflict, match="taken"):
            await app.enqueue_calls([work.child(1), sleep.child("taken"), other.child("x")])
        assert place.count() == 1
        first, second = await app.enqueue_calls([work.child(1), other.child("x")])
        assert (await first.result(PATIENCE), await second.result(PATIENCE)) == (1, "x")
        assert await work.enqueue_many([]) == []


async def test_what_is_wrong_with_few_is_told_without_asking_the_storage(
    app: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the storage was asked")

    @app.task
    async def work(n: int) -> None: ...

    async with app:
        monkeypatch.setattr(type(app.live.storage), "enqueue", refuse)
        with pytest.raises(InvalidInput, match=r"inputs\[999\]"):
            await work.enqueue_many([*range(999), "x"])  # type: ignore[list-item]
        with app.client() as client, pytest.raises(InvalidInput, match=r"inputs\[999\]"):
            client.enqueue_many(work, [*range(999), "x"])  # type: ignore[list-item]


async def test_many_leave_the_event_loop_to_others_and_are_what_they_were_at_the_call(
    app: Durable, place: Place
) -> None:
    inputs = list(range(5_000))
    turns: list[int] = []

    @app.task
    async def work(n: int) -> int:
        return n

    def meddle() -> None:
        turns.append(place.count())
        inputs.append(len(inputs))
        if turns[-1] == 0:
            asyncio.get_running_loop().call_soon(meddle)

    async with app:
        asyncio.get_running_loop().call_soon(meddle)
        handles = await work.enqueue_many(inputs)
    assert len(turns) >= 5
    assert set(turns) <= {0, 5_000}
    assert len(handles) == place.count() == 5_000


async def test_calls_that_come_together_are_all_stored_and_a_bad_one_fails_alone(app: Durable, place: Place) -> None:
    sleep = app.sleeping("sleep", int)

    async with app:
        results = await asyncio.gather(
            *(sleep.enqueue(f"id-{n % 40}") for n in range(50)),
            return_exceptions=True,
        )
    assert sum(isinstance(result, Exception) for result in results) == 10
    assert place.count() == 40


async def test_definitions_of_a_registry_belong_to_the_app_that_includes_it(place: Place) -> None:
    registry = Registry()

    @registry.task
    async def shared(n: int) -> int:
        return n

    with pytest.raises(NotOpen, match="no app includes"):
        await shared.enqueue(1)
    app = place.app()
    app.include(registry)

    @registry.parent()
    async def declared_later() -> Spawn[None]:
        return Spawn(None, [shared.child(2)])

    async with running(app):
        assert await (await shared.enqueue(1)).result(PATIENCE) == 1
        result = await (await declared_later.enqueue()).result(PATIENCE)
    assert [end.output for end in result.children] == [2]


async def test_two_apps_in_one_process_keep_to_themselves(place: Place) -> None:
    one, two = place.app(), MemoryPlace().app()

    @one.task(name="work")
    async def work_one() -> str:
        return "one"

    @two.task(name="work")
    async def work_two() -> str:
        return "two"

    async with running(one), running(two):
        results = [await (await work.enqueue()).result(PATIENCE) for work in (work_one, work_two)]
        foreign = two.handle_of((await work_one.enqueue()).execution_id, "work")
        with pytest.raises(ExecutionNotFound):
            await foreign.result(PATIENCE)
    assert results == ["one", "two"]


class Reversed(PayloadCodec):
    def encode(self, data: bytes, /) -> bytes:
        return data[::-1]

    def decode(self, data: bytes, /) -> bytes:
        return data[::-1]


async def test_a_payload_codec_covers_inputs_results_errors_and_progress(place: Place) -> None:
    app = place.app(payload_codec=Reversed())

    @app.task
    async def work(text: str) -> str:
        if text == "fail canary":
            raise ValueError(text)
        return text

    @app.parent()
    async def parent(text: str) -> Spawn[str]:
        return Spawn(text, [work.child(text), work.child(f"fail {text}")])

    async with running(app):
        handle = await parent.enqueue("canary", idempotency_key="once")
        again = await parent.enqueue("canary", idempotency_key="once")
        result = await handle.result(PATIENCE)
        assert again.execution_id == handle.execution_id
        assert (result.output, result.children[0].output) == ("canary", "canary")
        assert result.children[1].error is not None
        assert result.children[1].error.message == "fail canary"
        with pytest.raises(ExecutionFailed, match="fail canary"):
            await work.handle(result.children[1].execution_id).result(0)
        records = [
            await app.execution(id_) for id_ in (handle.execution_id, *(c.execution_id for c in result.children))
        ]
    for record in records:
        assert record.status in (Status.COMPLETED, Status.FAILED)
        assert "canary" not in "".join(
            str(value) for value in (record.input, record.output, record.run_output, record.error)
        )
