"""Pools from outside: limits over executors, changes at run time, retries, order, rates, and no work when idle."""

import asyncio
import contextlib
from collections import Counter
from itertools import product
from typing import Any

import pytest

from durable import (
    ConfigurationError,
    Durable,
    ExecutionFailed,
    NonRetryable,
    PayloadTooLarge,
    Pool,
    Rate,
    Registry,
    Retry,
    Spawn,
    Status,
    Task,
    constant,
    exponential,
)
from durable.execution import Claimed, Settlement
from durable.storage import ExecutionFilter

from .place import PATIENCE, Place, PostgresPlace, running, soon, until

FAR: dict[str, Any] = {"poll_interval": "10m"}
"""So far apart that what happens within the patience of a test did not wait for a poll."""


class Gate:
    """Counts who is inside, and lets them out when it is opened."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.entered = 0
        self._change = asyncio.Condition()
        self._is_open = False

    async def pass_through(self) -> None:
        async with self._change:
            self.inside += 1
            self.entered += 1
            self.most = max(self.most, self.inside)
            self._change.notify_all()
            await self._change.wait_for(lambda: self._is_open)
            self.inside -= 1

    async def open(self) -> None:
        async with self._change:
            self._is_open = True
            self._change.notify_all()

    async def entered_by(self, count: int) -> None:
        async with self._change:
            await soon(self._change.wait_for(lambda: self.entered >= count))


async def stored_running(app: Durable, pool: str) -> int:
    where = ExecutionFilter(statuses=(Status.RUNNING,), queue=pool)
    return len(await app.storage.search(where, limit=1000))


def noop_in(app: Durable, **limits: Any) -> tuple[Pool, Task[[int], int]]:
    pool = app.pool("work", **limits)

    @pool.task
    async def noop(n: int) -> int:
        return n

    return pool, noop


async def test_pool_01_four_executors_never_run_more_than_the_limit(place: Place) -> None:
    apps = [place.app() for _ in range(4)]
    inside: Counter[str] = Counter()
    seen: list[int] = []

    async def work(n: int) -> int:
        inside["now"] += 1
        seen.append(inside["now"])
        # A look at the database takes a while, in which others may start.
        seen.append(await stored_running(apps[n % 4], "work"))
        inside["now"] -= 1
        return n

    for app in apps:
        app.pool("work", max_parallelism=3).task(work)

    async with contextlib.AsyncExitStack() as stack:
        for app in apps:
            await stack.enter_async_context(running(app, concurrency=8))
        handles = await apps[0].enqueue_calls([Task(apps[0]["work"], apps[0].home).child(n) for n in range(200)])
        done, left = await apps[0].wait(handles, timeout=PATIENCE)

    assert (len(done), left) == (200, set())
    assert max(seen) == 3


async def test_pool_02_a_limit_that_is_raised_starts_more_and_a_lowered_one_stops_nothing(app: Durable) -> None:
    gate = Gate()
    pool = app.pool("work", max_parallelism=2)

    @pool.task
    async def work(n: int) -> None:
        await gate.pass_through()

    async with running(app, **FAR):
        handles = await work.enqueue_many(range(8))
        await gate.entered_by(2)
        assert (await pool.configure(max_parallelism=5)).max_parallelism == 5
        await gate.entered_by(5)
        assert (await pool.configure(max_parallelism=1)).max_parallelism == 1
        assert (gate.inside, await stored_running(app, "work")) == (5, 5)
        await gate.open()
        assert len((await app.wait(handles, timeout=PATIENCE))[0]) == 8
    assert gate.most == 5


async def test_pool_02_zero_starts_nothing_and_a_raise_resumes_at_once(app: Durable) -> None:
    pool, noop = noop_in(app, max_parallelism=0)
    other = app.task(name="other")(_answer)
    async with running(app, **FAR):
        handles = await noop.enqueue_many(range(5))
        # The executor has been there and has gone on: it ran what is in no pool.
        assert await (await other.enqueue()).result(PATIENCE) == 42
        assert {record.status for record in [await handle.execution() for handle in handles]} == {Status.READY}
        await pool.configure(max_parallelism=5)
        assert [await handle.result(PATIENCE) for handle in handles] == list(range(5))


async def _answer() -> int:
    return 42


async def test_pool_02_a_pause_keeps_the_limit_for_when_it_goes_on(app: Durable) -> None:
    pool, noop = noop_in(app, max_parallelism=3)
    other = app.task(name="other")(_answer)
    async with running(app, **FAR):
        assert (await pool.pause()).is_paused
        handle = await noop.enqueue(1)
        assert await (await other.enqueue()).result(PATIENCE) == 42
        assert await handle.status() is Status.READY
        config = await pool.resume()
        assert (config.is_paused, config.max_parallelism) == (False, 3)
        assert await handle.result(PATIENCE) == 1


async def test_pool_02_what_was_configured_outlives_the_declaration(place: Place) -> None:
    for _ in range(2):
        app = place.app()
        pool = app.pool("work", max_parallelism=3)
        async with app:
            if (await pool.config()).max_parallelism == 3:
                await pool.configure(max_parallelism=7, rate=Rate(5, per="1m"))
    async with place.app() as last:
        config = await last.pool("work", max_parallelism=1, max_per_key=2).config()

    assert (config.max_parallelism, config.max_per_key) == (7, 1)
    assert (config.rate_tokens, config.rate_period) == (5, 60.0)


async def test_pool_03_an_attempt_that_waits_for_its_retry_frees_its_place(app: Durable) -> None:
    pool = app.pool("work", max_parallelism=1, retry=Retry(max_attempts=2, delay=constant("10m")))

    @pool.task
    async def flaky(n: int) -> int:
        if n == 0:
            raise ValueError("not now")
        return n

    async with running(app, **FAR):
        waits = await flaky.enqueue(0)
        follows = await flaky.enqueue(1)
        assert await follows.result(PATIENCE) == 1
        assert (await waits.execution()).attempts == 1


async def test_pool_04_one_place_goes_by_priority_then_due_time_then_age(app: Durable) -> None:
    order: list[str] = []
    pool = app.pool("work", max_parallelism=1)

    @pool.task
    async def work(name: str) -> None:
        order.append(name)

    async with app:
        await pool.pause()
        # In one write, so that they count from one moment.
        handles = await app.enqueue_calls(
            [
                work.child("far", delay="1h"),
                work.child("third", delay="20ms"),
                work.child("first"),
                work.child("second"),
                work.child("urgent", priority=1),
            ]
        )
        due = (await handles[1].execution()).due_at
        async with app.executor(poll_interval="20ms"):
            while await app.storage.now() < due:
                pass  # a look at the clock is a round trip
            await pool.resume()
            await app.wait(handles[1:], timeout=PATIENCE)
            far = await handles[0].status()

    assert order == ["urgent", "first", "second", "third"]
    assert far is Status.READY


ONCE, TWICE, THRICE, FOUR_TIMES = (Retry(max_attempts=count, delay=constant(0)) for count in (1, 2, 3, 4))


async def test_pool_05_the_call_decides_then_the_task_then_the_pool(app: Durable) -> None:
    starts: Counter[str] = Counter()

    async def fails(case: str) -> None:
        starts[case] += 1
        raise ValueError("no")

    calls: list[tuple[str, int, Task[[str], None], dict[str, Any]]] = []
    for pool_retry, task_retry, call_retry in product((None, TWICE), (None, ONCE, THRICE), (None, ONCE, FOUR_TIMES)):
        case = f"{pool_retry} {task_retry} {call_retry}"
        pool = app.pool(f"pool {pool_retry}"[:80], retry=pool_retry)
        inside = pool.task(name=f"inside {len(calls)}", retry=task_retry)(fails)
        outside = app.task(name=f"outside {len(calls)}", retry=task_retry)(fails)
        expected = (call_retry or task_retry or pool_retry or ONCE).max_attempts
        options: dict[str, Any] = {} if call_retry is None else {"retry": call_retry}
        calls.append((f"in {case}", expected, inside, options))
        calls.append((f"out {case}", expected, outside, {**options, "pool": pool}))

    async with running(app):
        handles = [await task.with_options(**options).enqueue(case) for case, _, task, options in calls]
        assert not (await app.wait(handles, timeout=PATIENCE))[1]
    assert starts == {case: expected for case, expected, _, _ in calls}


async def test_pool_06_delays_grow_by_the_base_within_the_jitter_and_the_cap(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = place.app()
    delays: list[float] = []
    storage = app.storage
    settle = storage.settle

    def watched(settlements: Any, **options: Any) -> Any:
        delays.extend(item.delay for item in settlements if item.status is Status.READY)
        return settle([_at_once(item) for item in settlements], **options)

    monkeypatch.setattr(storage, "settle", watched)
    policy = Retry(max_attempts=6, delay=exponential("250ms", factor=2, max="2s"), jitter=0.5)

    @app.pool("work", retry=policy).task
    async def fails() -> None:
        raise ValueError("no")

    async with running(app):
        with pytest.raises(ExecutionFailed):
            await (await fails.enqueue()).result(PATIENCE)

    assert len(delays) == 5
    for delay, full in zip(delays, [0.25, 0.5, 1.0, 2.0, 2.0], strict=True):
        assert full * 0.5 <= delay <= min(full * 1.5, 2.0)


def _at_once(settlement: Settlement) -> Settlement:
    return settlement._replace(delay=0.0)


async def test_pool_07_a_non_retryable_error_ends_it_at_once_with_its_message(app: Durable) -> None:
    pool = app.pool("work", retry=Retry(max_attempts=5, delay=constant(0)))

    def deep() -> None:
        raise NonRetryable("the address does not exist")

    @pool.task
    async def send() -> None:
        await asyncio.to_thread(deep)

    async with running(app):
        handle = await send.enqueue()
        with pytest.raises(ExecutionFailed, match="the address does not exist"):
            await handle.result(PATIENCE)
        assert (await handle.execution()).attempts == 1


async def test_pool_27_a_batch_is_stored_whole_and_in_order(app: Durable) -> None:
    _, noop = noop_in(app, max_parallelism=None)
    async with app:
        handles = await noop.enqueue_many(range(10_000))
        some = [0, 1, 4_999, 9_999]
        records = [await handles[number].execution() for number in some]

    assert [record.input for record in records] == [
        records[0].input.replace("0", str(number), 1) if number else records[0].input for number in some
    ]
    assert {(record.queue, record.is_pooled) for record in records} == {("work", True)}
    assert len({handle.execution_id for handle in handles}) == 10_000


async def test_pool_27_one_that_is_too_large_refuses_the_batch(place: Place) -> None:
    app = place.app()

    @app.pool("work").task
    async def take(text: str) -> int:
        return len(text)

    async with app:
        with pytest.raises(PayloadTooLarge):
            await take.enqueue_many(["a", "b", "x" * 50_000_000, "c"])
    assert place.count() == 0


async def test_pool_31_a_retry_starts_when_its_backoff_is_over_without_a_poll(app: Durable) -> None:
    starts = 0

    @app.pool("work", max_parallelism=1, retry=Retry(max_attempts=3, delay=constant("30ms"), jitter=0)).task
    async def third_time() -> int:
        nonlocal starts
        starts += 1
        if starts < 3:
            raise ValueError("not yet")
        return starts

    async with running(app, **FAR):
        assert await (await third_time.enqueue()).result(PATIENCE) == 3


async def test_pool_32_an_idle_pool_is_asked_for_work_at_the_poll_interval_alone(
    app: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, noop = noop_in(app, max_parallelism=1)
    paused, held = noop_in_paused(app)
    storage = app.storage
    claims = 0
    settled_down = asyncio.Event()
    claim = storage.claim_pooled

    def counted(**options: Any) -> Any:
        nonlocal claims
        claims += 1
        return claim(**options)

    monkeypatch.setattr(storage, "claim_pooled", counted)
    async with running(app, **FAR):
        await held.enqueue(1)
        assert await (await noop.enqueue(1)).result(PATIENCE) == 1
        for _ in range(200):
            await app.storage.now()  # a round trip, in which a busy loop would claim
            settled_down.set()
        after = claims
        for _ in range(200):
            await app.storage.now()
    assert (claims, settled_down.is_set()) == (after, True)
    assert claims < 20
    assert {pool.name, paused.name} == {"work", "paused"}


def noop_in_paused(app: Durable) -> tuple[Pool, Task[[int], int]]:
    pool = app.pool("paused", max_parallelism=0)

    @pool.task
    async def held(n: int) -> int:
        return n

    return pool, held


# --- wake-ups --------------------------------------------------------------------------------------------------------


async def test_a_place_that_becomes_free_here_is_taken_without_a_poll(app: Durable) -> None:
    _, noop = noop_in(app, max_parallelism=2)
    async with running(app, **FAR):
        handles = await noop.enqueue_many(range(50))
        assert [await handle.result(PATIENCE) for handle in handles] == list(range(50))


async def test_a_place_that_becomes_free_elsewhere_is_taken_without_a_poll(postgres: PostgresPlace) -> None:
    first, second = postgres.app(), postgres.app()
    gate = Gate()

    @first.pool("work", max_parallelism=1).task
    async def holds() -> None:
        await gate.pass_through()

    @second.pool("work", max_parallelism=1).task
    async def follows() -> int:
        return 1

    other = second.task(name="other")(_answer)
    async with running(first, **FAR), running(second, **FAR):
        await holds.enqueue()
        await gate.entered_by(1)
        handle = await follows.enqueue()
        for _ in range(3):
            # With each of these the second executor has asked the pool as well, and was refused.
            assert await (await other.enqueue()).result(PATIENCE) == 42
        await gate.open()
        assert await handle.result(PATIENCE) == 1


async def test_a_rate_goes_on_when_its_next_token_comes_without_a_poll(app: Durable) -> None:
    _, noop = noop_in(app, max_parallelism=None, rate=Rate(2, per="100ms"))
    async with running(app, **FAR):
        handles = await noop.enqueue_many(range(6))
        assert not (await app.wait(handles, timeout=PATIENCE))[1]
        records = [await handle.execution() for handle in handles]
    starts = sorted(record.started_at.timestamp() for record in records if record.started_at is not None)
    # By the database's clock: never a third within 100 ms.
    assert all(third - first >= 0.1 for first, third in zip(starts, starts[2:], strict=False))


# --- which pool, which executor --------------------------------------------------------------------------------------


async def test_an_enqueue_may_choose_the_pool_or_leave_it(app: Durable) -> None:
    _, noop = noop_in(app)
    other = app.pool("other")
    async with app:
        records = [
            await (await noop.enqueue(1)).execution(),
            await (await noop.enqueue(1, pool=other)).execution(),
            await (await noop.with_options(pool=other, serial_key="k").enqueue(1)).execution(),
            await (await noop.enqueue(1, queue="plain")).execution(),
        ]
    assert [(record.queue, record.is_pooled, record.serial_key) for record in records] == [
        ("work", True, None), ("other", True, None), ("other", True, "k"), ("plain", False, None),
    ]  # fmt: skip


async def test_any_definition_and_any_child_may_run_in_a_pool(app: Durable) -> None:
    pool, noop = noop_in(app, max_parallelism=1)

    @app.parent(pool=pool)
    async def family(count: int) -> Spawn[int]:
        return Spawn(count, [noop.child(n, serial_key="k") for n in range(count)])

    async with running(app, **FAR):
        result = await (await family.enqueue(3)).result(PATIENCE)
    assert [child.output for child in result.children] == [0, 1, 2]


async def test_a_pool_may_be_declared_while_the_executor_runs(app: Durable) -> None:
    task = app.task(name="answer")(_answer)
    async with running(app, **FAR):
        for user in ("ann", "bob"):
            handle = await task.enqueue(pool=app.pool(f"user {user}", max_parallelism=1))
            assert await handle.result(PATIENCE) == 42
            assert (await handle.execution()).queue == f"user {user}"


async def test_an_executor_serves_a_pool_that_its_queues_name(place: Place) -> None:
    declares, serves = place.app(), place.app()
    handle_of = declares.pool("work").task(name="answer")(_answer)
    serves.task(name="answer")(_answer)
    async with declares, running(serves, queues=["default", "work"]):
        assert await (await handle_of.enqueue()).result(PATIENCE) == 42


async def test_an_executor_serves_the_pools_it_is_told_and_no_others(app: Durable) -> None:
    _, noop = noop_in(app)
    wanted = app.pool("wanted").task(name="wanted")(_answer)
    async with running(app, pools=["wanted"], **FAR):
        left = await noop.enqueue(1)
        assert await (await wanted.enqueue()).result(PATIENCE) == 42
        assert await left.status() is Status.READY


async def test_a_registry_brings_its_pools_along(place: Place) -> None:
    module = Registry()
    _, noop = noop_in(module)  # type: ignore[arg-type]  # a registry declares as an app does
    app = place.app()
    app.include(module)
    async with running(app):
        assert await (await noop.enqueue(3)).result(PATIENCE) == 3


async def test_a_lost_lease_gives_the_place_to_the_next(place: Place) -> None:
    app = place.app()
    _, noop = noop_in(app, max_parallelism=1)
    async with app:
        lost, follows = await noop.enqueue_many([1, 2])
        claim = await app.storage.claim_pooled(
            executor_id="gone", pools=["work"], task_names=["noop"], limit=1, lease=0.01
        )
        turns: list[Claimed] = claim.claimed
        async with app.executor(poll_interval="10m", upkeep_interval="20ms"):
            assert await follows.result(PATIENCE) == 2
            assert await lost.result(PATIENCE) == 1
    assert [turn.id for turn in turns] == [lost.execution_id]


# --- without an event loop -------------------------------------------------------------------------------------------


def test_a_client_changes_a_pool_by_the_same_names(place: Place) -> None:
    app = place.app()
    pool, noop = noop_in(app, max_parallelism=3)
    with app.client() as client:
        blocking = client.pool(pool)
        assert (blocking.name, blocking.config().max_parallelism) == ("work", 3)
        assert blocking.configure(max_parallelism=5, rate=Rate(7, per="2s")).max_parallelism == 5
        assert blocking.pause().is_paused
        assert not blocking.resume().is_paused
        config = blocking.config()
        handle = client.enqueue(noop, 1, serial_key="k")
        assert handle.execution().serial_key == "k"
    assert (config.max_parallelism, config.rate_tokens, config.rate_period) == (5, 7, 2.0)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_parallelism": -1}, "max_parallelism"),
        ({"max_parallelism": 1.5}, "max_parallelism"),
        ({"max_parallelism": True}, "max_parallelism"),
        ({"max_per_key": 0}, "max_per_key"),
        ({"keep_order": 1}, "keep_order"),
        ({"rate": 5}, "rate"),
    ],
)
async def test_a_limit_that_cannot_be_meant_is_named(limits: dict[str, Any], said: str, app: Durable) -> None:
    with pytest.raises(ConfigurationError, match=said):
        app.pool("work", **limits)
    pool = app.pool("work")
    async with app:
        with pytest.raises(ConfigurationError, match=said):
            await pool.configure(**limits)
        assert await pool.config() == pool.declared


def test_a_rate_needs_tokens_and_time() -> None:
    for tokens, per in ((0, "1m"), (1.5, "1m"), (5, 0), (5, -1)):
        with pytest.raises(ConfigurationError, match="rate"):
            Rate(tokens, per=per)  # type: ignore[arg-type]


async def test_an_unknown_limit_is_named(app: Durable) -> None:
    pool = app.pool("work")
    async with app:
        with pytest.raises(ConfigurationError, match="parallel"):
            await pool.configure(parallel=5)  # type: ignore[call-arg]


def test_a_pool_declared_twice_is_one_unless_the_two_differ(app: Durable) -> None:
    assert app.pool("work", max_parallelism=3) is app.pool("work", max_parallelism=3)
    with pytest.raises(ConfigurationError, match="work"):
        app.pool("work", max_parallelism=4)


async def test_a_serial_key_needs_a_pool(app: Durable) -> None:
    task = app.task(name="answer")(_answer)
    pool = app.pool("work")
    async with app:
        for options in ({"serial_key": "k"}, {"serial_key": "k", "queue": "x"}, {"pool": "work"},
                        {"pool": pool, "queue": "x"}, {"pool": pool, "serial_key": ""}):  # fmt: skip
            with pytest.raises(ConfigurationError, match=r"serial_key|pool"):
                await task.enqueue(**options)


async def test_a_pool_of_another_app_is_refused(place: Place) -> None:
    task = place.app().task(name="answer")(_answer)
    app = place.app()
    mine = app.task(name="answer")(_answer)
    stranger = place.app().pool("work")
    async with app:
        with pytest.raises(ConfigurationError, match="another app"):
            await mine.enqueue(pool=stranger)
    assert (task.name, place.count()) == ("answer", 0)


async def test_until_is_told_of_a_cancelled_place(app: Durable) -> None:
    gate = Gate()
    pool = app.pool("work", max_parallelism=1)

    @pool.task
    async def work(n: int) -> int:
        if n == 0:
            await gate.pass_through()
        return n

    async with running(app, **FAR):
        held = await work.enqueue(0)
        await gate.entered_by(1)
        follows = await work.enqueue(1)
        await held.cancel()
        assert await follows.result(PATIENCE) == 1
        await until(app, held.execution_id, lambda record: record.status is Status.CANCELLED)
