"""A refund that a person must approve: asked, reminded, and refused by itself when nobody answers.

Shows an approval with an unguessable token and a list of who may decide, a reminder while it is open, an expiry, and
days of waiting in virtual time. Run it with `python -m examples.refund_approval`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from durable import Durable, WorkflowContext
from durable.testing import app_under_test

app = Durable("memory:")
mails: list[str] = []


@dataclass(frozen=True)
class Refund:
    order: str
    euros: float


async def mail(to: str, text: str) -> None:
    mails.append(f"to {to}: {text}")


@app.workflow
async def refund(ctx: WorkflowContext, asked: Refund) -> str:
    approval = await ctx.approval("refund", allowed=["alice", "bob"], expires="3d", details=asked)
    await ctx.step(
        mail, "alice and bob", f"please decide about {asked.order}, token of {len(approval.token)} characters"
    )

    async def remind() -> None:
        await ctx.sleep("2d")
        await ctx.step(mail, "alice and bob", f"{asked.order} still waits for you")

    reminder = asyncio.create_task(remind())
    decision = await approval.decision()
    reminder.cancel()
    if decision.is_granted:
        await ctx.step(mail, "accounting", f"pay back {asked.euros:.2f} euros of {asked.order}")
    return f"{asked.order}: {decision.outcome} by {decision.by or 'nobody'}"


async def main() -> list[str]:
    mails.clear()
    async with app_under_test(app) as kit:
        lamp = await refund.enqueue(Refund("lamp", 20.0))
        sofa = await refund.enqueue(Refund("sofa", 900.0))
        await kit.clock.advance("1d")
        for record in await app.approvals.list(status="pending", workflow=refund):
            if record.execution_id == lamp.execution_id:
                await app.approvals.grant(record, by="alice", comment="it was broken")
        await kit.clock.advance("25h")
        await kit.clock.advance("30d")
        ends = [await lamp.result(timeout=0), await sofa.result(timeout=0)]
    print(*mails, *ends, sep="\n")
    return ends


if __name__ == "__main__":
    asyncio.run(main())
