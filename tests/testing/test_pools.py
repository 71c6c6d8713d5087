"""Pools under virtual time: places, rates and keys hold work back, and time goes on when they let it go."""

from __future__ import annotations

import pytest

from durable import Durable, Rate
from durable.testing import VirtualStorage, app_under_test


@pytest.fixture(params=["durable_memory", "durable_postgres"])
def storage(request: pytest.FixtureRequest) -> VirtualStorage:
    found: VirtualStorage = request.getfixturevalue(request.param)
    return found


async def test_a_rate_is_worked_off_in_virtual_time(storage: VirtualStorage) -> None:
    app = Durable("postgresql://nobody@nowhere.invalid/nothing")
    mails = app.pool("mails", rate=Rate(2, per="1m"))
    sent: list[int] = []

    @mails.task
    async def send(number: int) -> None:
        sent.append(number)

    async with app_under_test(app, storage=storage) as kit:
        await send.enqueue_many(range(6))
        await kit.drain()
        assert len(sent) == 2
        await kit.clock.advance("59s")
        assert len(sent) == 2
        await kit.clock.advance("1s")
        assert len(sent) == 4
        await kit.clock.advance("1m")
    assert sorted(sent) == [0, 1, 2, 3, 4, 5]


async def test_what_a_paused_pool_holds_does_not_keep_time_from_going_on(storage: VirtualStorage) -> None:
    app = Durable("postgresql://nobody@nowhere.invalid/nothing")
    mails = app.pool("mails", max_parallelism=0)
    sent: list[str] = []

    @mails.task
    async def send(to: str) -> None:
        sent.append(to)

    async with app_under_test(app, storage=storage) as kit:
        await send.enqueue("a", serial_key="customer 1")
        await send.enqueue("b", delay="1h", serial_key="customer 1")
        await kit.clock.advance("2h")
        assert sent == []
        await mails.configure(max_parallelism=1)
        await kit.drain()
    assert sent == ["a", "b"]


async def test_keys_alternate_and_what_has_none_goes_beside_them(storage: VirtualStorage) -> None:
    app = Durable("postgresql://nobody@nowhere.invalid/nothing")
    mails = app.pool("mails", max_parallelism=1)
    sent: list[str] = []

    @mails.task
    async def send(mail: str) -> None:
        sent.append(mail)

    async with app_under_test(app, storage=storage) as kit:
        await mails.pause()
        for number in range(3):
            await send.enqueue(f"a{number}", serial_key="a")
        for number in range(2):
            await send.enqueue(f"b{number}", serial_key="b")
        await send.enqueue("none")
        await mails.resume()
        await kit.drain()
    assert sent == ["none", "a0", "b0", "a1", "b1", "a2"]
