"""What a type checker makes of what clients do with workflows. Checked by mypy and pyright, both strict; never run.

A line that must be refused carries an ignore for each checker; both report an ignore that nothing needs.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, assert_type

from durable import (
    ApprovalDecision,
    ApprovalRecord,
    Chunk,
    Durable,
    PublishedValues,
    Query,
    SendOutcome,
    SyncHandle,
    SyncWorkflowHandle,
    TaskContext,
    Update,
    WorkflowContext,
    WorkflowHandle,
)

app = Durable()


@dataclass
class Item:
    name: str


@app.workflow
async def basket(ctx: WorkflowContext, owner: str) -> list[Item]:
    async for item in ctx.signals("item", Item):
        assert_type(item, Item)
        break
    ctx.state["items"] = []
    ctx.publish("items", [])
    approval = await ctx.approval("pay", allowed=["alice"], expires="3d", details={"for": owner})
    assert_type(approval.token, str)
    assert_type(approval.expires_at, datetime | None)
    decision = await approval.decision()
    assert_type(decision, ApprovalDecision)
    assert_type(decision.outcome, Literal["granted", "refused", "expired"])
    await ctx.approval("pay", expires=[3])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return []


@basket.query
def count(state: PublishedValues, most: int = 10) -> int:
    assert_type(state["items"], Any)
    assert_type(state.value("items", list[Item]), list[Item] | None)
    return min(len(state), most)


@basket.update
async def add(ctx: WorkflowContext, item: Item, times: int = 1) -> float:
    return 1.0


@add.validator
def has_room(ctx: WorkflowContext, item: Item, times: int = 1) -> None: ...


@basket.update
async def empty(ctx: WorkflowContext) -> None: ...


async def shout(ctx: TaskContext, word: str) -> bytes:
    ctx.emit(word)
    return b""


def whisper(ctx: TaskContext, word: str) -> bytes:
    ctx.emit(word)
    return b""


@app.workflow
async def speaker(ctx: WorkflowContext) -> None:
    assert_type(await ctx.step(shout, "a"), bytes)
    assert_type(await ctx.step(whisper, "a"), bytes)
    await ctx.step(shout, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


@app.task
async def plain(n: int) -> str:
    return ""


async def values(handle: WorkflowHandle[list[Item]]) -> None:
    assert_type(await handle.signal("x", 1, signal_id="1"), SendOutcome)
    assert_type(await handle.value("x"), Any)
    assert_type(await handle.value("x", Item), Item | None)
    assert_type(await handle.values(), PublishedValues)
    assert_type(handle.watch("x"), AsyncIterator[Any])
    async for item in handle.watch("x", Item):
        assert_type(item, Item)
    async for chunk in handle.stream(str, after=3):
        assert_type(chunk, Chunk[str])
    async for anything in handle.stream():
        assert_type(anything, Chunk[Any])


async def requests(handle: WorkflowHandle[list[Item]]) -> None:
    any_query: Query[..., int] = count
    del any_query
    assert_type(await handle.query(count), int)
    assert_type(await handle.query(count, most=3), int)
    assert_type(await handle.update(add, Item("a")), float)
    assert_type(await handle.update(add, Item("a"), update_id="1", timeout="5s"), float)
    assert_type(await handle.update(add, Item("a"), 2, update_id="1"), float)
    assert_type(await handle.update(add, item=Item("a"), times=2), float)
    assert_type(await handle.update(empty), None)
    assert_type(await handle.update(empty, timeout=1.0), None)
    await handle.query(count, "3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await handle.update(add, "a")  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await handle.update(add)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue]
    await handle.update(empty, 1)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue]
    await handle.update(count)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await handle.query(add)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def approvals() -> None:
    assert_type(await app.approvals.list(status="pending", workflow=basket), list[ApprovalRecord])
    assert_type(await app.approvals.grant("token", by="alice"), ApprovalRecord)
    await app.approvals.list(status="lost")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.approvals.grant("token")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def blocking() -> None:
    with app.client() as client:
        handle = client.enqueue(basket, "alice", idempotency_key="k")
        assert_type(handle, SyncWorkflowHandle[list[Item]])
        assert_type(client.enqueue(speaker), SyncWorkflowHandle[None])
        assert_type(client.enqueue(basket, owner="alice"), SyncWorkflowHandle[list[Item]])
        assert_type(client.enqueue(plain, 1), SyncHandle[str])
        assert_type(client.handle(basket, "id"), SyncWorkflowHandle[list[Item]])
        assert_type(client.handle(plain, "id"), SyncHandle[str])
        client.enqueue(basket, 1)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
        assert_type(handle.value("x", Item), Item | None)
        assert_type([item for item in handle.watch("x", Item)], list[Item])  # noqa: C416 - the type of the items
        assert_type(next(handle.stream(str)), Chunk[str])
        assert_type(handle.query(count), int)
        assert_type(handle.update(add, Item("a"), update_id="1"), float)
        assert_type(client.approvals.refuse("token", by="alice"), ApprovalRecord)


def declared() -> None:
    any_update: Update[..., float] = add
    del any_update

    def sync(ctx: WorkflowContext) -> None: ...

    basket.update(sync)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
