"""Approvals: asked for in a workflow, decided from outside by somebody who may, and known for good."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from durable import (
    ApprovalClosed,
    ApprovalDecision,
    ApprovalNotAllowed,
    ApprovalNotFound,
    ConfigurationError,
    Durable,
    Status,
    WorkflowContext,
)
from durable.testing import VirtualStorage, app_under_test
from storage_postgres.testing.virtual import VirtualPostgres
from tests.jobs.crew import client_only, crew

Mails = list[str]


def refunds(app: Durable, mails: Mails, **options: Any) -> Any:
    """A workflow that mails the token, and waits for the decision."""

    async def mail(token: str) -> None:
        mails.append(token)

    @app.workflow
    async def refund(ctx: WorkflowContext, amount: int) -> ApprovalDecision:
        approval = await ctx.approval("refund", details={"amount": amount}, **options)
        await ctx.step(mail, approval.token)
        return await approval.decision()

    return refund


async def test_a_granted_approval_lets_the_workflow_go_on(app: Durable, storage: VirtualStorage) -> None:
    mails: Mails = []
    refund = refunds(app, mails, allowed=["bob", "alice"], expires="3d")
    async with app_under_test(app, storage=storage) as kit:
        handle = await refund.enqueue(7)
        await kit.drain()
        assert await handle.status() is Status.READY  # it is due when the approval expires
        (listed,) = await app.approvals.list(status="pending", workflow=refund)
        assert (listed.name, listed.execution_id, listed.allowed) == ("refund", handle.execution_id, ("alice", "bob"))
        assert (listed.details, listed.expires_at) == ({"amount": 7}, storage.now() + timedelta(days=3))
        assert await app.approvals.get(mails[0]) == listed
        await kit.clock.advance("1h")
        decided = await app.approvals.grant(mails[0], by="alice", comment="fine")
        assert (decided.status, decided.decided_by, decided.comment) == ("granted", "alice", "fine")
        await kit.drain()
        decision = await handle.result(timeout=0)
        assert decision == ApprovalDecision("granted", "alice", "fine", storage.now())
        assert (decision.is_granted, len(mails)) == (True, 1)
        assert await app.approvals.list(status="pending") == []
        assert await app.approvals.list(workflow="refund") == [decided]


async def test_a_refusal_from_the_list_without_an_event_loop(app: Durable, storage: VirtualStorage) -> None:
    refund = refunds(app, [])
    async with app_under_test(app, storage=storage) as kit:
        with app.client() as client:
            handle = client.enqueue(refund, 7)
            await kit.drain()
            (listed,) = client.approvals.list()
            assert client.approvals.get(listed) == listed
            client.approvals.refuse(listed, by="eve")
            with pytest.raises(ApprovalClosed, match="refused already by eve"):
                client.approvals.grant(listed, by="alice")
            await kit.drain()
            assert handle.result(0) == ApprovalDecision("refused", "eve", None, storage.now())


async def test_it_expires_where_nobody_decides(app: Durable, storage: VirtualStorage) -> None:
    mails: Mails = []
    refund = refunds(app, mails, expires="3d")
    began = storage.now()
    async with app_under_test(app, storage=storage) as kit:
        handle = await refund.enqueue(7)
        await kit.clock.advance("3d")
        at = began + timedelta(days=3)
        assert await handle.result(timeout=0) == ApprovalDecision("expired", None, None, at)
        with pytest.raises(ApprovalClosed) as closed:
            await app.approvals.grant(mails[0], by="alice")
        assert (closed.value.status, closed.value.by, closed.value.at) == ("expired", None, at)
        assert [each.decided_at for each in await app.approvals.list(status="expired")] == [at]


async def test_a_decision_in_the_last_moment_counts_though_the_time_is_over(
    app: Durable, storage: VirtualStorage
) -> None:
    """No executor runs, so that the workflow meets both at once, and the time first."""
    mails: Mails = []

    async def mail(token: str) -> None:
        mails.append(token)

    @app.workflow
    async def refund(ctx: WorkflowContext) -> str:
        approval = await ctx.approval("refund", expires="1h")
        await ctx.step(mail, approval.token)
        await ctx.sleep("2h")
        return (await approval.decision()).outcome

    async with app_under_test(app, storage=storage) as kit:
        handle = await refund.enqueue()
        await kit.clock.advance("59m")
        await app.approvals.grant(mails[0], by="alice")
        await kit.clock.advance("2h")
        assert await handle.result(timeout=0) == "granted"


async def test_only_who_is_allowed_and_only_with_the_token(app: Durable, storage: VirtualStorage) -> None:
    mails: Mails = []
    refund = refunds(app, mails, allowed=["alice"])
    async with app_under_test(app, storage=storage) as kit:
        handle = await refund.enqueue(7)
        await kit.drain()
        with pytest.raises(ApprovalNotAllowed, match="'eve'"):
            await app.approvals.grant(mails[0], by="eve")
        for wrong in (mails[0][:-1], mails[0] + "x", "x"):
            with pytest.raises(ApprovalNotFound):
                await app.approvals.grant(wrong, by="alice")
            with pytest.raises(ApprovalNotFound):
                await app.approvals.get(wrong)
        for bad in ({"by": ""}, {"by": 7}, {"by": "alice", "comment": 7}):
            with pytest.raises(ValueError, match=r"by|comment"):
                await app.approvals.grant(mails[0], **bad)
        with pytest.raises(ConfigurationError, match="status"):
            await app.approvals.list(status="lost")  # type: ignore[arg-type]  # pyright: ignore
        # A signal of a user's cannot pass for a decision.
        (listed,) = await app.approvals.list()
        with pytest.raises(ConfigurationError, match="name"):
            await handle.signal(f"#approval:{listed.id}", {"outcome": "granted"})
        assert listed.status == "pending"


async def test_tokens_are_long_and_never_the_same_and_stay_so_in_a_replay(
    app: Durable, storage: VirtualStorage
) -> None:
    seen: list[tuple[str, str]] = []

    async def note(one: str, two: str) -> None:
        seen.append((one, two))

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        one, two = await ctx.gather(ctx.approval("x"), ctx.approval("x"))
        await ctx.with_options(name="first").step(note, one.token, two.token)
        await ctx.wait_signal("go", bool)
        await ctx.with_options(name="second").step(note, one.token, two.token)
        return (await one.decision()).outcome + (await two.decision()).outcome + (await two.decision()).outcome

    async with crew(storage, app) as (kit,):
        handle = await flow.enqueue()
        await kit.drain()
    async with crew(storage, app) as (kit,):
        await flow.handle(handle.execution_id).signal("go", True)
        await app.approvals.grant(seen[0][1], by="alice")
        await kit.drain()
    async with crew(storage, app) as (kit,):
        await app.approvals.refuse(seen[0][0], by="alice")
        await kit.drain()
        assert await flow.handle(handle.execution_id).result(timeout=0) == "refusedgrantedgranted"
    first, second = seen
    assert first == second
    assert len(first[0]) >= 43
    assert first[0] != first[1]


async def test_an_approval_is_withdrawn_with_its_workflow(app: Durable, storage: VirtualStorage) -> None:
    mails: Mails = []
    refund = refunds(app, mails)
    async with app_under_test(app, storage=storage) as kit:
        handle = await refund.enqueue(7)
        await kit.drain()
        await handle.cancel()
        await kit.drain()
        assert await handle.status() is Status.CANCELLED
        with pytest.raises(ApprovalClosed, match="withdrawn"):
            await app.approvals.grant(mails[0], by="alice")
        assert [each.name for each in await app.approvals.list(status="withdrawn")] == ["refund"]


async def test_a_decision_is_part_of_the_callers_transaction(app: Durable, durable_postgres: VirtualPostgres) -> None:
    mails: Mails = []
    refund = refunds(app, mails)
    async with app_under_test(app, storage=durable_postgres) as kit:
        handle = await refund.enqueue(7)
        await kit.drain()
        async with await psycopg.AsyncConnection.connect(durable_postgres.dsn) as connection:
            await app.approvals.grant(mails[0], by="alice", connection=connection)
            await connection.rollback()
            assert (await app.approvals.get(mails[0])).status == "pending"
            await app.approvals.refuse(mails[0], by="bob", connection=connection)
            await connection.commit()
        await kit.drain()
        assert (await handle.result(timeout=0)).outcome == "refused"


async def test_what_no_approval_can_be_is_refused(app: Durable, storage: VirtualStorage) -> None:
    refused: list[str] = []

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        options: list[dict[str, Any]] = [
            {"allowed": []}, {"allowed": "alice"}, {"allowed": [""]}, {"expires": 0}, {"name": "a#b"}
        ]  # fmt: skip
        for each in options:
            try:
                await ctx.approval(**{"name": "x", **each})
            except ConfigurationError as error:
                refused.append(str(error).split(" ")[0])

    async with app_under_test(app, storage=storage) as kit:
        await flow.enqueue()
        await kit.drain()
    async with client_only(storage, app):
        assert await app.approvals.list() == []
    assert refused == ["allowed", "allowed", "allowed", "expires", "name"]
