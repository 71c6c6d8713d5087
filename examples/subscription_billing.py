"""Bill a subscription for a year, in virtual time: twelve months pass in a second.

Shows a workflow that sleeps from month to month, signals that change the plan and end it, a card that is declined and
tried again days later, and `durable.testing`, which moves the clock. Run it with
`python -m examples.subscription_billing`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from durable import Durable, Retry, StepFailed, WorkflowContext, linear, step
from durable.testing import app_under_test

app = Durable("memory:")


@dataclass(frozen=True)
class Subscription:
    customer: str
    plan: str
    month: int = 1
    paid: float = 0.0


PRICES = {"basic": 5.0, "team": 20.0}
ledger: list[str] = []
declined: set[tuple[str, int]] = {("ada", 3)}
"""Cards that are declined once."""


@step(retry=Retry(4, linear("1d"), jitter=0))
async def charge(customer: str, month: int, euros: float) -> float:
    if (customer, month) in declined:
        declined.discard((customer, month))
        raise ConnectionError("the card was declined")
    ledger.append(f"{customer} paid {euros:.2f} for month {month}")
    return euros


@app.workflow
async def subscription(ctx: WorkflowContext, now: Subscription) -> Subscription:
    began = ctx.now()
    try:
        paid = await ctx.step(charge, now.customer, now.month, PRICES[now.plan])
    except StepFailed:
        return now  # four days without money: the subscription ends
    now = replace(now, paid=now.paid + paid)
    ctx.publish("paid", now.paid)
    try:
        # A month after it began, however long the charge took.
        async with ctx.timeout(30 * 86_400 - (ctx.now() - began).total_seconds()):
            async for plan in ctx.signals("plan", str):
                if plan == "end":
                    return now
                now = replace(now, plan=plan)
    except TimeoutError:
        pass
    if now.month < 12:
        ctx.continue_as_new(replace(now, month=now.month + 1))  # each month begins with an empty history
    return now


async def main() -> list[Subscription]:
    ledger.clear()
    declined.add(("ada", 3))
    async with app_under_test(app) as kit:
        ada = await subscription.enqueue(Subscription("ada", "basic"))
        bob = await subscription.enqueue(Subscription("bob", "team"))
        await kit.clock.advance("100d")
        await ada.signal("plan", "team")
        print("by day 100 ada has paid", await ada.value("paid", float))
        await kit.clock.advance("100d")
        await bob.signal("plan", "end")
        await kit.clock.advance("200d")
        ends = [await ada.result(timeout=0), await bob.result(timeout=0)]
    print(*ledger, sep="\n")
    return ends


if __name__ == "__main__":
    asyncio.run(main())
