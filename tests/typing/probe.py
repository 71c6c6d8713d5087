from __future__ import annotations
from dataclasses import dataclass
from typing import assert_type, Any, Coroutine
from durable import *
from durable.task import TaskFunction, Task

@dataclass
class Order:
    id: str
@dataclass
class Receipt:
    number: int

app = Durable()

@app.task
async def add(a: int, b: int = 1) -> int:
    return a + b

@app.task(retry=Retry(max_attempts=3, delay=exponential("1s")), timeout="30s")
async def charge(order: Order) -> Receipt:
    return Receipt(1)

@app.task
def measure(ctx: TaskContext, word: str) -> int:
    return len(word)

@app.task(queue="q")
def nothing() -> None: ...

@app.task
def wide(a: int, b: str, c: bytes, d: float) -> float:
    return d
@app.task
def three(a: int, b: str, c: bytes) -> float:
    return 1.0

async def total(out: str, ends: list[ChildResult[int]]) -> int:
    return 1
def total2(out: str, ends: list[ChildResult[int]]) -> int:
    return 1
@app.task
async def fin(out: str, ends: list[ChildResult[int]]) -> Receipt:
    return Receipt(2)

@app.parent(finalize=total)
async def p1(n: int) -> Spawn[str]:
    return Spawn("x", [add.child(i) for i in range(n)])
@app.parent(finalize=total2)
def p2(n: int) -> Spawn[str]:
    return Spawn("x", [add.child(i, 3, delay="1s") for i in range(n)])
@app.parent(finalize=fin)
async def p3(ctx: TaskContext, n: int) -> Spawn[str]:
    return Spawn("x")
@app.parent()
async def p4(n: int) -> Spawn[str]:
    return Spawn("x")
@app.loop(max_iterations=3)
async def l1(ctx: TaskContext, n: str) -> Done[int] | Again:
    return Done(1)
@app.loop(max_iterations=3)
def l2(n: str) -> Done[int] | Again:
    return Again()
seq = app.sequence("seq", add, measure, charge)
sl = app.sleeping("sl", Receipt, timeout="10s")

async def main() -> None:
    reveal_type(add)
    reveal_type(charge)
    reveal_type(p1)
    reveal_type(p2)
    reveal_type(p3)
    reveal_type(p4)
    reveal_type(l1)
    reveal_type(l2)
    reveal_type(seq)
    reveal_type(sl)
    assert_type(await add(1), int)
    assert_type(await add.enqueue(1), Handle[int])
    assert_type(await add.enqueue(1, 2), Handle[int])
    assert_type(await add.enqueue(1, b=2), Handle[int])
    assert_type(await add.enqueue(1, idempotency_key="k"), Handle[int])
    assert_type(await add.enqueue(1, 2, delay="1s", priority=1), Handle[int])
    assert_type(await add.with_options(delay="1s").enqueue(1, b=3), Handle[int])
    assert_type(await charge.enqueue(Order("x"), idempotency_key="k"), Handle[Receipt])
    assert_type(await (await charge.enqueue(Order("x"))).result(60), Receipt)
    assert_type(await measure.enqueue("x"), Handle[int])
    assert_type(await measure.enqueue("x", queue="k"), Handle[int])
    assert_type(await nothing.enqueue(), Handle[None])
    assert_type(await nothing.enqueue(delay=1), Handle[None])
    assert_type(await wide.enqueue(1, "", b"", 1.0), Handle[float])
    assert_type(await three.enqueue(1, "", b"", delay=3), Handle[float])
    assert_type(await p1.enqueue(1), Handle[int])
    assert_type(await p2.enqueue(1), Handle[int])
    assert_type(await p3.enqueue(1), Handle[Receipt])
    assert_type(await p4.enqueue(1), Handle[ParentResult[str]])
    assert_type(await l1.enqueue("s"), Handle[LoopResult[int]])
    assert_type(await l2.enqueue("s", delay="1s"), Handle[LoopResult[int]])
    assert_type(await seq.enqueue(1), Handle[Receipt])
    assert_type(await sl.enqueue("id"), Handle[Receipt])
    assert_type(await sl.enqueue("id", delay="1s"), Handle[Receipt])
    assert_type(await sl.wakeup("id", Receipt(1)), WakeResult)
    assert_type(await add.enqueue_many([1, 2]), list[Handle[int]])
    assert_type(await add.enqueue_many(range(3), priority=3), list[Handle[int]])
    assert_type(await charge.enqueue_many([Order("s")]), list[Handle[Receipt]])
    assert_type(add.child(1), Child[int])
    assert_type(add.child(1, 2), Child[int])
    assert_type(charge.child(Order("s"), delay="1s"), Child[Receipt])
    assert_type(add.handle("x"), Handle[int])
    with app.client() as client:
        assert_type(client.enqueue(add, 1), SyncHandle[int])
        assert_type(client.enqueue(add, 1, b=2), SyncHandle[int])
        assert_type(client.enqueue(add, 1, 2, delay="1s"), SyncHandle[int])
        assert_type(client.enqueue(charge, Order("s")), SyncHandle[Receipt])
        assert_type(client.enqueue(charge, Order("s"), idempotency_key="x"), SyncHandle[Receipt])
        assert_type(client.enqueue(nothing), SyncHandle[None])
        assert_type(client.enqueue(nothing, delay=1), SyncHandle[None])
        assert_type(client.enqueue(sl, "s"), SyncHandle[Receipt])
        assert_type(client.enqueue(p3, 3), SyncHandle[Receipt])
        assert_type(client.enqueue_many(add, [1]), list[SyncHandle[int]])
        assert_type(client.handle(charge, "s").result(), Receipt)
        assert_type(client.wakeup(sl, "s", Receipt(1)), WakeResult)
