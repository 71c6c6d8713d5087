"""Gather the webhooks about a contact and handle them together: a Debounce behind an ASGI app.

Shows changes merged by a reducer, a flush after a while or at a number of events, and delivery ids, by which a webhook
that is delivered again counts once. The requests are real ones, on loopback.
Run it with `python -m examples.webhook_batcher`.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from http.client import HTTPConnection
from uuid import uuid4

from durable import Durable
from durable.jobs import DebounceContext, EventContext, ShownStatus
from examples.support.asgi import Message, Receive, Send, serving

app = Durable()
Change = dict[str, str]
contacts = app.task_job("contacts", state=list[Change], event=Change)
"""Stands for the system that is updated: keeps every update of a contact."""


@contacts.on_event
async def update(ctx: EventContext[list[Change], Change], changes: Change) -> None:
    ctx.set_state([*(ctx.state or []), changes])


def merge(state: Change | None, event: Change) -> Change:
    return {**(state or {}), **event}


@app.debounce(event=Change, state=Change, reducer=merge, flush_after="3s", max_events=3)
async def contact_changed(ctx: DebounceContext[Change, Change]) -> None:
    print(f"{ctx.key}: {ctx.event_count} of its changes, by {ctx.flush_reason}: {ctx.state}")
    ctx.send(contacts, ctx.key, ctx.state)


async def webhooks(scope: Message, receive: Receive, send: Send) -> None:
    """POST /KEY, with the id of the delivery in a header. It answers when the change is durable."""
    delivery = dict(scope["headers"])[b"x-delivery"].decode()
    change = json.loads((await receive())["body"])
    added = await contact_changed.add(scope["path"].removeprefix("/"), change, event_id=delivery)
    await send({"type": "http.response.start", "status": 200 if added.duplicate else 202, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def post(port: int, contact: str, change: Change, delivery: str) -> int:
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("POST", f"/{contact}", json.dumps(change), {"X-Delivery": delivery})
        with connection.getresponse() as answer:
            return answer.status


async def main() -> tuple[list[int], dict[str, list[Change] | None]]:
    """The statuses of the answers, and the updates of each contact."""
    name, mail, city = {"name": "Ada"}, {"mail": "ada@example.org"}, {"city": "London"}
    first, second, third, fourth = (str(uuid4()) for _ in range(4))
    deliveries = [("ada", name, first), ("ada", mail, second), ("ada", mail, second), ("bob", city, third)]
    async with app.executor(poll_interval="50ms"), serving(webhooks) as port, asyncio.timeout(60):
        statuses = [await asyncio.to_thread(post, port, *each) for each in [*deliveries, ("ada", city, fourth)]]
        print("answers:", *statuses)
        for contact in ("ada", "bob"):
            while (await contacts.status(contact)).status is not ShownStatus.IDLE:
                await asyncio.sleep(0.05)
            await contacts.terminate(contact, reason="the example ends")
        return statuses, {contact: (await contacts.state(contact)).state for contact in ("ada", "bob")}


if __name__ == "__main__":
    asyncio.run(main())
