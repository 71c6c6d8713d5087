"""Approvals in a fork: what was decided counts, what was open is asked for anew, with a token of its own."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from durable import ApprovalClosed, ApprovalNotAllowed, Durable, Status, Workflow, WorkflowContext
from durable.testing import VirtualStorage, app_under_test


class Mails:
    def __init__(self) -> None:
        self.tokens: list[str] = []

    async def send(self, token: str) -> None:
        self.tokens.append(token)


def _flow(app: Durable, mails: Mails, *, version: int = 1) -> Workflow[[], list[str]]:
    """Asks twice by one name, sends the tokens away, and waits in the other order."""

    @app.workflow(version=version)
    async def flow(ctx: WorkflowContext) -> list[str]:
        first = await ctx.approval("pay", allowed=["alice"], expires="3d", details={"amount": 7})
        second = await ctx.approval("pay", allowed=["bob"], expires="3d")
        await ctx.step(mails.send, first.token)
        ctx.publish("token", second.token)
        await ctx.step(mails.send, second.token)
        other = await second.decision()
        await ctx.with_options(name="between").step(abs, 1)
        return [(await first.decision()).outcome, other.outcome, first.token, second.token]

    return flow


async def test_what_was_decided_counts_and_the_rest_is_asked_for_anew(app: Durable, storage: VirtualStorage) -> None:
    mails = Mails()
    flow = _flow(app, mails)
    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        first, second = mails.tokens
        await app.approvals.grant(second, by="bob")
        await kit.clock.advance("2d")
        forked = await handle.fork("between")
        asked = [row for row in await app.approvals.list(status="pending") if row.execution_id == forked.execution_id]
        assert [(row.name, row.allowed, row.details) for row in asked] == [("pay", ("alice",), {"amount": 7})]
        # The time for it begins anew.
        assert asked[0].expires_at == kit.clock.now() + timedelta(days=3)
        await kit.drain()
        await kit.clock.advance("2d")
        # That of the source has expired meanwhile, with the token that was sent.
        assert (await handle.result(timeout=0))[:2] == ["expired", "granted"]
        with pytest.raises(ApprovalClosed):
            await app.approvals.grant(first, by="alice")
        assert await forked.status() is Status.READY
        with pytest.raises(ApprovalNotAllowed):
            await app.approvals.grant(asked[0], by="bob")
        await app.approvals.refuse(asked[0], by="alice")
        await kit.drain()
        result = await forked.result(timeout=0)
        assert (result[:2], result[3]) == (["refused", "granted"], second)
        assert (await app.approvals.get(result[2])).id == asked[0].id
        assert result[2] not in (first, second)
        assert mails.tokens == [first, second]  # what was sent before its point is not sent again


async def test_the_fork_sends_the_token_of_its_own(app: Durable, storage: VirtualStorage) -> None:
    mails = Mails()
    flow = _flow(app, mails)
    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        forked = await handle.fork("send#2")
        await kit.drain()
        assert len(set(mails.tokens)) == 3
        assert await forked.value("token") == mails.tokens[2] != await handle.value("token")
        await app.approvals.grant(mails.tokens[2], by="bob")
        await kit.drain()
        await kit.clock.advance("3d")
        assert (await forked.result(timeout=0))[:2] == ["expired", "granted"]
        assert (await handle.result(timeout=0))[:2] == ["expired", "expired"]


async def test_a_fork_of_a_fork_and_another_process(app: Durable, storage: VirtualStorage) -> None:
    mails = Mails()
    flow = _flow(app, mails)
    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        forked = await handle.fork()
        again = await forked.fork()  # before it has ever run
        await kit.drain()
        (second,) = [
            row
            for row in await app.approvals.list()
            if row.execution_id == again.execution_id and row.allowed == ("bob",)
        ]
        await app.approvals.grant(second, by="bob")
    async with app_under_test(app, storage=storage) as kit:
        await kit.drain()
        third = await again.fork("between")
        await kit.clock.advance("3d")
        for each in (again, third):
            assert (await each.execution()).error is None
            assert (await each.result(timeout=0))[:2] == ["expired", "granted"]
        assert (await forked.result(timeout=0))[:2] == ["expired", "expired"]


async def test_one_that_had_expired_stays_so(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[str]:
        approval = await ctx.approval("pay", expires="1h")
        outcome = (await approval.decision()).outcome
        await ctx.wait_signal("go", int)
        return [outcome, approval.token]

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("1h")
        forked = await handle.fork()
        for each in (handle, forked):
            await each.signal("go", 1)
        await kit.drain()
        assert await forked.result(timeout=0) == await handle.result(timeout=0)
        assert len(await app.approvals.list()) == 1


async def test_the_blocking_client_asks_anew_too(app: Durable, storage: VirtualStorage) -> None:
    mails = Mails()
    flow = _flow(app, mails)
    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()

        def fork() -> str:
            with app.client() as client:
                return client.handle(flow, handle.execution_id).fork().execution_id

        id_ = await asyncio.to_thread(fork)
        await kit.drain()
        assert [row.status for row in await app.approvals.list() if row.execution_id == id_] == ["pending", "pending"]
        assert (await flow.handle(id_).execution()).error is None
