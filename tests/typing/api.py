"""What a type checker makes of the public interface. Checked by mypy and pyright, both strict; never run.

A line that must be refused carries an ignore for each checker; both report an ignore that nothing needs.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from durable import (
    Again,
    CancelResult,
    Child,
    ChildResult,
    Completion,
    Continue,
    Done,
    Durable,
    Execution,
    Executor,
    Handle,
    LoopResult,
    OnComplete,
    ParentResult,
    Pool,
    PoolConfig,
    PoolReport,
    Rate,
    Registry,
    Retry,
    Spawn,
    Status,
    StatusReport,
    SyncHandle,
    SyncPool,
    TaskContext,
    WakeResult,
    WorkReport,
    constant,
    exponential,
)
from durable.testing import EnqueuedCall, Kit, app_under_test


@dataclass
class Order:
    id: str


@dataclass
class Receipt:
    number: int


app = Durable()
shop = Registry()


@app.task
async def add(a: int, b: int = 1) -> int:
    return a + b


@app.task(retry=Retry(max_attempts=5, delay=exponential("1s", max="30s")), timeout=timedelta(seconds=30), queue="money")
async def charge(order: Order) -> Receipt:
    return Receipt(len(order.id))


@app.task
def measure(ctx: TaskContext, word: str) -> int:
    return len(word) + ctx.attempt


@shop.task(name="sweep-up", delay="1h", priority=-1)
def sweep() -> None: ...


@app.task
async def pack(ctx: TaskContext, order: Order, box: str, weight: float, fragile: bool) -> bytes:
    return f"{ctx.attempt} {order.id} {box} {weight} {fragile}".encode()


@app.task
def store(document: dict[str, Any]) -> str:
    return str(document)


@app.task
async def echo(value: object, times: int) -> int:
    return len(str(value)) * times


# --- a definition is still the function it was made from ----------------------------------------------------------


async def calls(ctx: TaskContext) -> None:
    assert_type(await add(1, b=2), int)
    assert_type(await assert_type(add(1), Coroutine[object, object, int]), int)
    assert_type(measure(ctx, "word"), int)
    assert_type(await echo(b"any object", 2), int)
    await add("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    measure("word")  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]


# --- enqueue ------------------------------------------------------------------------------------------------------


async def enqueues() -> None:
    assert_type(await add.enqueue(1), Handle[int])
    assert_type(await add.enqueue(1, 2), Handle[int])
    assert_type(await add.enqueue(1, b=2), Handle[int])
    assert_type(await sweep.enqueue(), Handle[None])
    assert_type(await charge.enqueue(Order("42")), Handle[Receipt])
    assert_type(await measure.enqueue("word"), Handle[int])
    assert_type(await store.enqueue({"key": [1, None]}), Handle[str])
    assert_type(await echo.enqueue(1.5, 2), Handle[int])
    assert_type(await echo.enqueue(Order("42"), times=2), Handle[int])
    assert_type(await pack.enqueue(Order("42"), "small", 1.5, fragile=True), Handle[bytes])

    await add.enqueue()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await add.enqueue("1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await add.enqueue(1, 2, 3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await charge.enqueue("42")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await pack.enqueue(Order("42"), "small")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def options() -> None:
    soon = datetime.now(UTC) + timedelta(minutes=1)
    assert_type(await charge.enqueue(Order("42"), idempotency_key="order-42"), Handle[Receipt])
    assert_type(await add.enqueue(1, 2, delay="1m", priority=2), Handle[int])
    assert_type(await add.enqueue(1, run_at=soon, queue="slow", timeout=None), Handle[int])
    assert_type(await sweep.enqueue(retry=Retry(3, constant("1s"))), Handle[None])
    assert_type(await pack.with_options(delay=5).enqueue(Order("42"), "s", 1.5, fragile=True), Handle[bytes])
    assert_type(await add.with_options(idempotency_key="k").enqueue(a=1, b=2), Handle[int])

    await charge.enqueue(Order("42"), dealy="1m")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await charge.enqueue(Order("42"), priority="high")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    add.with_options(dealy="1m")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await add.with_options(delay="1m").enqueue("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await add.with_options(delay="1m").enqueue(1, priority=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def many() -> None:
    assert_type(await add.enqueue_many(range(3)), list[Handle[int]])
    assert_type(await charge.enqueue_many([Order("1"), Order("2")], priority=2), list[Handle[Receipt]])
    assert_type(await app.enqueue_calls([add.child(1), add.child(2)]), list[Handle[int]])
    await charge.enqueue_many(["1", "2"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


# --- handles ------------------------------------------------------------------------------------------------------


async def handles(handle: Handle[Receipt]) -> None:
    assert_type(await handle.result(), Receipt)
    assert_type(await handle.result(timeout="5s"), Receipt)
    assert_type(await handle.status(), Status)
    assert_type(await handle.execution(), Execution)
    assert_type(await handle.children(), list[ChildResult[Any]])
    assert_type(await handle.cancel(reason="no longer wanted"), CancelResult)
    assert_type(charge.handle(handle.execution_id), Handle[Receipt])
    assert_type(await app.wait([handle], timeout=1), tuple[set[str], set[str]])
    assert (await handle.result()).nubmer  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


# --- parents ------------------------------------------------------------------------------------------------------


async def add_up(label: str, ends: list[ChildResult[int]]) -> Receipt:
    return Receipt(sum(end.result() for end in ends) + len(label))


def join(label: str, ends: list[ChildResult[Any]]) -> str:
    return f"{label} {len(ends)}"


@app.task
async def summarise(label: str, ends: list[ChildResult[int]]) -> Receipt:
    return await add_up(label, ends)


@app.parent(finalize=add_up, timeout="1m")
async def fan_out(count: int) -> Spawn[str]:
    return Spawn("numbers", [add.child(number, delay="1s") for number in range(count)])


@app.parent(finalize=join)
def fan_out_in_a_thread(ctx: TaskContext, count: int) -> Spawn[str]:
    return Spawn("numbers", [measure.child("word") for _ in range(count + ctx.attempt)])


@app.parent(finalize=summarise)
async def fan_out_far(ctx: TaskContext, count: int) -> Spawn[str]:
    return Spawn("numbers", [add.child(number) for number in range(count + ctx.attempt)])


@app.parent()
async def fan_out_only(count: int) -> Spawn[Order]:
    return Spawn(Order("42"), [pack.child(Order("42"), "s", 1.5, fragile=True) for _ in range(count)])


async def parents(ctx: TaskContext) -> None:
    assert_type(await fan_out.enqueue(3), Handle[Receipt])
    assert_type(await fan_out_in_a_thread.enqueue(3), Handle[str])
    assert_type(await fan_out_far.enqueue(3, priority=1), Handle[Receipt])
    assert_type(await fan_out_only.enqueue(3), Handle[ParentResult[Order]])
    assert_type((await (await fan_out_only.enqueue(3)).result()).output, Order)
    assert_type((await fan_out_only(3)).output, Order)
    assert_type(fan_out.child(3), Child[Receipt])
    assert_type(add.child(1, b=2), Child[int])
    assert_type(sweep.child(queue="slow"), Child[None])
    fan_out_in_a_thread(ctx, 3)

    add.child("1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    add.child(1, idempotency_key="k")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    app.parent(finalize="join")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    app.parent(finalise=join)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


@app.parent()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def spawns_nothing(count: int) -> int:
    return count


# --- loops, sequences and sleeping tasks --------------------------------------------------------------------------


@app.loop(max_iterations=10, every="1s")
async def poll(ctx: TaskContext, url: str) -> Done[bytes] | Again:
    return Done(url.encode()) if ctx.iteration == 3 else Again()


@app.loop(max_iterations=10)
def poll_in_a_thread(url: str) -> Done[bytes] | Again:
    return Done(url.encode())


@app.task
async def number_of(receipt: Receipt) -> int:
    return receipt.number


buy = app.sequence("buy", charge, number_of, add, retry=Retry(2))
approval = app.sleeping("approval", bool, timeout="1d")


async def other_kinds() -> None:
    assert_type(await poll.enqueue("https://example.org"), Handle[LoopResult[bytes]])
    assert_type(await poll_in_a_thread.enqueue("https://example.org", delay=1), Handle[LoopResult[bytes]])
    assert_type(await buy.enqueue(Order("42"), idempotency_key="42"), Handle[int])
    assert_type(buy.child(Order("42")), Child[int])
    assert_type(await approval.enqueue("order-42", delay="1s"), Handle[bool])
    assert_type(await approval.wakeup("order-42", True), WakeResult)
    assert_type(await approval.wakeup_failed("order-42", "refused"), WakeResult)

    app.loop(every="1s")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.sequence("bad", charge, measure)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await buy.enqueue(Receipt(1))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await approval.enqueue(42)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await approval.wakeup("order-42", "yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@app.loop(max_iterations=10)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def never_says_again(url: str) -> str:
    return url


# --- after the end ------------------------------------------------------------------------------------------------


@app.task
async def notify(ctx: TaskContext, end: Completion[Receipt, Order]) -> None:
    assert_type(end.result(), Receipt)
    assert_type(end.context, Order)
    assert_type(end.output, Receipt | None)


@app.task
def log(end: Completion[int]) -> None:
    assert_type(end.context, None)


@app.task
async def pages(cursor: str, total: int = 0) -> int:
    raise pages.continue_with(cursor + "x", total=total + 1)


async def ends() -> None:
    notified = OnComplete(notify, context=Order("42"), when=["failed", "cancelled"], mode="transaction")
    assert_type(await charge.enqueue(Order("42"), on_complete=notified, delay=1), Handle[Receipt])
    assert_type(charge.child(Order("42"), on_complete=notified), Child[Receipt])
    assert_type(await add.enqueue_many([1], on_complete=OnComplete(log)), list[Handle[int]])
    assert_type(await add.with_options(on_complete=OnComplete(log)).enqueue(1, b=2), Handle[int])
    assert_type((await (await add.enqueue(1)).cancel(running="finish")).is_requested, bool)
    assert_type(await app.cancel_all(queue="money", task=charge, running="finish"), int)
    assert_type(await app.status("id"), StatusReport)
    assert_type(await app.status_many(["id"]), list[StatusReport])
    assert_type(pages.continue_with("a", total=1), Continue)

    OnComplete(notify)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    OnComplete(add)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    OnComplete(notify, context=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    OnComplete(log, when=["done"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    pages.continue_with(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await (await add.enqueue(1)).cancel(running="wait")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- running ------------------------------------------------------------------------------------------------------


async def running() -> None:
    async with app.executor(queues=["default", "money"], concurrency=4, lease="15s", grace=5) as executor:
        assert_type(executor, Executor)
        assert_type(executor.running, int)
    app.executor(concurency=4)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.executor(lease=b"15s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- without an event loop ----------------------------------------------------------------------------------------


def blocking() -> None:
    with app.client() as client:
        assert_type(client.enqueue(add, 1), SyncHandle[int])
        assert_type(client.enqueue(add, 1, b=2), SyncHandle[int])
        assert_type(client.enqueue(add, 1, 2, delay="1m"), SyncHandle[int])
        assert_type(client.enqueue(sweep, priority=1), SyncHandle[None])
        assert_type(client.enqueue(charge, Order("42"), idempotency_key="order-42"), SyncHandle[Receipt])
        assert_type(client.enqueue(fan_out_only, 3), SyncHandle[ParentResult[Order]])
        assert_type(client.enqueue(buy, Order("42")), SyncHandle[int])
        assert_type(client.enqueue(approval, "order-42"), SyncHandle[bool])
        assert_type(client.enqueue_many(charge, [Order("42")], delay=1), list[SyncHandle[Receipt]])
        assert_type(client.handle(charge, "id").result("5s"), Receipt)
        assert_type(client.wakeup(approval, "order-42", True), WakeResult)

        client.enqueue(add, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
        client.enqueue(charge, Order("42"), dealy=1)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue]
        client.enqueue_many(add, ["1"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        client.wakeup(approval, "order-42", "yes")  # type: ignore[misc]  # pyright: ignore[reportArgumentType]


async def in_tests() -> None:
    async with app_under_test(app, queues=["money"], at=datetime(2030, 1, 1, tzinfo=UTC), patience="5s") as kit:
        assert_type(kit, Kit)
        assert_type(await kit.clock.advance("3d"), datetime)
        assert_type(kit.assert_enqueued(charge, Order("1"), queue="money"), EnqueuedCall)
        assert_type(kit.enqueued(add, a=1), list[EnqueuedCall])
        kit.assert_enqueued("charge")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


# --- pools -----------------------------------------------------------------------------------------------------------

emails = app.pool("emails", max_parallelism=10, max_per_key=1, rate=Rate(100, per="1m"), retry=Retry(max_attempts=3))
assert_type(emails, Pool)


@emails.task
async def send(address: str) -> int:
    return len(address)


@emails.task(timeout="30s", priority=2)
def send_later(ctx: TaskContext, address: str, times: int = 1) -> bool:
    return ctx.attempt > times


@app.parent(pool=emails)
async def newsletter(addresses: list[str]) -> Spawn[None]:
    return Spawn(None, [send.child(address, serial_key=address) for address in addresses])


async def in_a_pool() -> None:
    assert_type(await send("a"), int)
    assert_type(await send.enqueue("a", serial_key="customer 7"), Handle[int])
    assert_type(await send.with_options(serial_key="customer 7").enqueue("a"), Handle[int])
    assert_type(await send_later.enqueue("a", 2), Handle[bool])
    assert_type(await add.enqueue(1, pool=emails), Handle[int])
    assert_type(await emails.configure(max_parallelism=5, rate=None), PoolConfig)
    assert_type(await emails.pause(), PoolConfig)
    report = await emails.report(over="15m")
    assert_type(report, PoolReport)
    assert_type(report.tasks["add"], WorkReport)
    assert_type(report.failure_rate, float)
    await send.enqueue(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await send.enqueue("a", serial_key=7)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await emails.configure(max_parallel=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.pool("other", rate=100)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def in_a_pool_without_an_event_loop() -> None:
    with app.client() as client:
        assert_type(client.pool(emails), SyncPool)
        assert_type(client.pool(emails).configure(max_per_key=None), PoolConfig)
        assert_type(client.pool(emails).report(), PoolReport)
        assert_type(client.enqueue(send, "a", serial_key="k"), SyncHandle[int])
