"""Check the health of servers: a Continuous for each, which keeps a history and alerts after two failures in a row.

Shows a schedule, a state that remembers, and a message to another job in the commit of the check that found
the failure, so that an alert is neither lost nor sent twice. The servers are real sockets on loopback; one goes down.
Run it with `python -m examples.health_checker`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from durable import Durable, every
from durable.jobs import ContinuousContext, EventContext

app = Durable()
KEPT = 100


@dataclass
class Target:
    port: int
    history: list[bool] = field(default_factory=list[bool])
    """The last checks, oldest first."""
    is_down: bool = False


alerts = app.task_job("alerts", state=list[str], event=str)


@alerts.on_event
async def alert(ctx: EventContext[list[str], str], text: str) -> None:
    print(f"alert for {ctx.key}: {text}")
    ctx.set_state([*(ctx.state or []), text])


@app.continuous(state=Target, schedule=every("100ms"), timeout="10s")
async def health_checker(ctx: ContinuousContext[Target]) -> None:
    before = ctx.state
    history = [*before.history, await answers(before.port)][-KEPT:]
    is_down = not any(history[-2:]) if len(history) > 1 else False
    if is_down != before.is_down:
        ctx.send(alerts, "on-call", f"{ctx.key} is {'down' if is_down else 'up again'}")
    ctx.set_state(Target(before.port, history, is_down))


async def answers(port: int) -> bool:
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            greeting = await reader.readline()
            writer.close()
    except (OSError, TimeoutError):
        return False
    return greeting == b"ready\n"


async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"ready\n")
    writer.close()


async def alerted(text: str) -> list[str]:
    """All alerts, once this one is among them."""
    while text not in (texts := (await alerts.state("on-call")).state or []):
        await asyncio.sleep(0.05)
    return texts


async def main() -> tuple[list[str], dict[str, list[bool]]]:
    """The alerts, and the history of each server."""
    servers = {name: await asyncio.start_server(greet, "127.0.0.1") for name in ("web", "database")}
    ports = {name: server.sockets[0].getsockname()[1] for name, server in servers.items()}
    async with app.executor(), asyncio.timeout(60):
        for name, port in ports.items():
            await health_checker.start(name, Target(port), wait=True)
        servers["database"].close()
        await alerted("database is down")
        servers["database"] = await asyncio.start_server(greet, "127.0.0.1", ports["database"])
        texts = await alerted("database is up again")
        states = {name: await health_checker.state(name) for name in servers}
        for name, server in servers.items():
            await health_checker.terminate(name)
            server.close()
        await alerts.terminate("on-call")
        return texts, {name: state.history for name, state in states.items() if state is not None}


if __name__ == "__main__":
    asyncio.run(main())
