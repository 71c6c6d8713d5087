"""Check the health of servers: a Continuous for each, which keeps a history and alerts after two failures in a row.

Shows a state that remembers, and a message to another job in the commit of the check itself. The servers are sockets on
loopback; one goes down and comes back. Run it with `python -m examples.health_checker`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from durable import Durable, every
from durable.jobs import ContinuousContext, EventContext

app = Durable()


@dataclass
class Target:
    port: int
    history: list[bool] = field(default_factory=list[bool])
    is_down: bool = False


alerts = app.task_job("alerts", state=list[str], event=str)


@alerts.on_event
async def alert(ctx: EventContext[list[str], str], text: str) -> None:
    print(f"alert for {ctx.key}: {text}")
    ctx.set_state([*(ctx.state or []), text])


@app.continuous(state=Target, schedule=every("100ms"), timeout="10s")
async def health_checker(ctx: ContinuousContext[Target]) -> None:
    port, was_down = ctx.state.port, ctx.state.is_down
    history = [*ctx.state.history, await answers(port)][-100:]
    is_down = history[-2:] == [False, False]
    if is_down != was_down:
        ctx.send(alerts, "on-call", f"{ctx.key} is {'down' if is_down else 'up again'}")
    ctx.set_state(Target(port, history, is_down))


async def answers(port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), timeout=5)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def alerted(text: str) -> list[str]:
    while text not in (texts := (await alerts.state("on-call")).state or []):
        await asyncio.sleep(0.05)
    return texts


async def main() -> tuple[list[str], list[Target | None]]:
    """The alerts, and the state of each server."""
    web, database = [await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1") for _ in range(2)]
    ports = {name: server.sockets[0].getsockname()[1] for name, server in (("web", web), ("database", database))}
    async with web, app.executor(poll_interval="50ms"), asyncio.timeout(60):
        await alerts.send("on-call", "the watch begins", wait=True)
        for name, port in ports.items():
            await health_checker.terminate(name, reason="left by a run that was stopped")
            await health_checker.start(name, Target(port), wait=True)
        database.close()
        await alerted("database is down")
        async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", ports["database"]):
            texts = await alerted("database is up again")
            for name in ports:
                await health_checker.terminate(name, reason="the example ends")
            await alerts.terminate("on-call")
        return texts, [await health_checker.state(name) for name in ports]


if __name__ == "__main__":
    asyncio.run(main())
