"""Book a trip: three bookings by steps, and each is undone if a later one fails.

Shows steps with a retry policy, compensations that run in reverse, a finalize that runs whatever happened, and a step
whose writes to the database are committed with it. Run it with `python -m examples.order_saga`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from durable import Durable, ExecutionFailed, NonRetryable, Retry, WorkflowContext, constant, step

app = Durable()


@dataclass(frozen=True)
class Trip:
    customer: str
    city: str
    nights: int


diary: dict[str, list[str]] = {}
"""Stands for the services that are called: what each customer's trip did to them."""


@step(retry=Retry(3, constant("50ms")), timeout="5s")
async def book(what: str, trip: Trip) -> str:
    """What it returns does not depend on how often it ran: a crash may repeat it."""
    done = diary.setdefault(trip.customer, [])
    if what == "flight" and "flight: no answer" not in done:
        done.append("flight: no answer")
        raise ConnectionError("the airline does not answer")
    if what == "car" and trip.nights > 7:
        raise NonRetryable("no car is free for so long")
    done.append(f"{what} booked")
    return f"{what} in {trip.city}"


async def cancel(what: str, trip: Trip, booking: str) -> None:
    diary[trip.customer].append(f"{what} cancelled")


async def invoice(connection: Any, trip: Trip, bookings: list[str]) -> str:
    """Its insert and the entry of the step are one commit: there is one invoice, whatever crashes."""
    if connection is not None:
        await connection.execute("create table if not exists invoices (customer text, bookings text[])")
        await connection.execute("insert into invoices values (%s, %s)", [trip.customer, bookings])
    return f"invoice for {trip.customer}: {', '.join(bookings)}"


@app.workflow
async def travel(ctx: WorkflowContext, trip: Trip) -> str:
    bookings: list[str] = []
    for what in ("flight", "hotel", "car"):
        booking = await ctx.step(book, what, trip)
        ctx.on_rollback(cancel, what, trip, booking)
        bookings.append(booking)
    return await ctx.transaction(invoice, trip, bookings)


@travel.finalize
async def tell(ctx: WorkflowContext) -> None:
    await ctx.step(print, f"trip {ctx.execution_id[-4:]} is decided")


async def main() -> dict[str, list[str]]:
    """What each trip did to the services."""
    diary.clear()
    async with app.executor(poll_interval="50ms"), asyncio.timeout(60):
        short = await travel.enqueue(Trip("ada", "Oslo", 3))
        long = await travel.enqueue(Trip("bob", "Rome", 30))
        print(await short.result())
        try:
            await long.result()
        except ExecutionFailed as failed:
            print("bob stays at home:", failed)
    return diary


if __name__ == "__main__":
    asyncio.run(main())
