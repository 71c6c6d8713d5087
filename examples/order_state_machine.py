"""An order from created over paid to shipped: a Task job that moves by events and by a timer.

Shows a reminder while it is unpaid, an event that comes too early (on_error writes it down), a check of the delivery,
and messages to another job, which has the mails of a customer. Run it with `python -m examples.order_state_machine`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from durable import Durable
from durable.jobs import ErrorContext, EventContext, ExecuteContext

app = Durable()
STEPS = ["new", "created", "paid", "shipped"]
QUESTIONS = {"created": "when will you pay {}?", "shipped": "did {} arrive?"}


@dataclass
class Order:
    step: str = "new"
    asked: list[str] = field(default_factory=list[str])
    refused: list[str] = field(default_factory=list[str])


order = app.task_job("order", state=Order, event=str)
mails = app.task_job("mails", state=list[str], event=str)


@order.on_event
async def advance(ctx: EventContext[Order, str], step: str) -> None:
    now = ctx.state or Order()
    if STEPS.index(step) != STEPS.index(now.step) + 1:
        raise ValueError(f"{step}, but the order is {now.step}")
    ctx.set_state(replace(now, step=step))
    ctx.send(mails, "ada", f"{ctx.key} is {step}")
    ctx.schedule("300ms") if step in QUESTIONS else ctx.cancel_schedule()


@order.execute
async def ask(ctx: ExecuteContext[Order]) -> None:
    now = ctx.state or Order()
    ctx.set_state(replace(now, asked=[*now.asked, now.step]))
    ctx.send(mails, "ada", QUESTIONS[now.step].format(ctx.key))


@order.on_error
async def refuse(ctx: ErrorContext[Order], error: Exception) -> None:
    ctx.update_state(lambda now: replace(now, refused=[*now.refused, str(error)]))


@mails.on_event
async def mail(ctx: EventContext[list[str], str], text: str) -> None:
    print(f"to {ctx.key}: {text}")
    ctx.set_state([*(ctx.state or []), text])


async def mailed(text: str) -> list[str]:
    while text not in (texts := (await mails.state("ada")).state or []):
        await asyncio.sleep(0.05)
    return texts


async def main() -> tuple[Order | None, list[str]]:
    async with app.executor(poll_interval="50ms"), asyncio.timeout(60):
        await order.terminate("lamp", reason="left by a run that was stopped")
        await mails.send("ada", "welcome", wait=True)
        await order.send("lamp", "created")
        await mailed("when will you pay lamp?")
        for step in ("shipped", "paid", "shipped"):  # the first of them comes too early
            await order.send("lamp", step)
        texts = await mailed("did lamp arrive?")
        await mails.terminate("ada")
        return (await order.state("lamp")).state, texts


if __name__ == "__main__":
    asyncio.run(main())
