"""Remind customers of what they planned: timers that run at a moment, again and again, or not at all.

Shows a timer for each reminder, one that is retried until the mail server is back, a slot that is set again when plans
change, a greeting that waits for nobody (`sequential=False`), and a cancel. Run it with `python -m examples.reminders`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from durable import Durable, TaskContext
from durable.jobs import EventContext

app = Durable()
mails = app.task_job("mails", state=list[str], event=str)
"""Stands for the mail server: keeps the mails to a customer."""


@mails.on_event
async def deliver(ctx: EventContext[list[str], str], text: str) -> None:
    print(f"to {ctx.key}: {text}")
    ctx.set_state([*(ctx.state or []), text])


@app.task
async def remind(ctx: TaskContext, customer: str, text: str) -> None:
    if text == "your table is at seven" and ctx.attempt == 1:
        raise ConnectionError("the mail server is away")
    # The same for a start that a crash repeats, so the mail is sent once.
    await mails.send(customer, text, event_id=ctx.execution_id)


async def received(customer: str, enough: Callable[[list[str]], bool]) -> list[str]:
    while not enough(texts := (await mails.state(customer)).state or []):
        await asyncio.sleep(0.05)
    return texts


async def main() -> dict[str, list[str]]:
    """The mails to each customer."""
    timers, now = app.timers, datetime.now(UTC)
    async with app.executor(poll_interval="50ms"), asyncio.timeout(60):
        await timers.cancel_all(owner="ada")  # left by a run that was stopped
        await timers.cancel_all(owner="bob")

        soon = now + timedelta(milliseconds=200)
        await timers.at(soon, remind.child("ada", "your table is at seven"), owner="ada", retry_interval="500ms")
        await timers.after("1d", remind.child("ada", "the lamp is on its way"), owner="ada", name="parcel")
        await timers.after("400ms", remind.child("ada", "the lamp is here"), owner="ada", name="parcel")
        await timers.after(0, remind.child("ada", "welcome"), owner="ada", sequential=False)
        weekly = await timers.every("300ms", remind.child("bob", "your weekly report"), owner="bob")
        unwanted = await timers.after("600ms", remind.child("bob", "come back!"), owner="bob")
        await timers.cancel(unwanted.id)

        ada = await received("ada", lambda texts: len(texts) == 3)
        bob = await received("bob", lambda texts: len(texts) >= 2)
        await timers.cancel(weekly.id)
        print("reminders that are left:", len(await timers.list(owner="ada")) + len(await timers.list(owner="bob")))
        for customer in ("ada", "bob"):
            await mails.terminate(customer, reason="the example ends")
        return {"ada": ada, "bob": bob}


if __name__ == "__main__":
    asyncio.run(main())
