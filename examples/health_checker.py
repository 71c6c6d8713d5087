"""Check the health of servers: a Continuous for each, which keeps a history and alerts after two failures in a row.

Shows a state that remembers, and a message to another job in the commit of the check that found the failure, so that no
alert is lost or sent twice. The servers are real sockets on loopback; one goes down and comes back.
Run it with `python -m examples.health_checker`.
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
        writer.close()
    except (OSError, TimeoutError):
        return False
    return True


def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def alerted(text: str) -> list[str]:
    while text not in (texts := (await alerts.state("on-call")).state or []):
        await asyncio.sleep(0.05)
    return texts


async def main() -> tuple[list[str], dict[str, list[bool]]]:
    """The alerts, and the history of each server."""
    web, database = [await asyncio.start_server(hang_up, "127.0.0.1") for _ in range(2)]
    ports: dict[str, int] = {"web": web.sockets[0].getsockname()[1], "database": database.sockets[0].getsockname()[1]}
    async with web, app.executor(poll_interval="50ms"), asyncio.timeout(60):
        await alerts.send("on-call", "the watch begins", wait=True)
        for name, port in ports.items():
            await health_checker.terminate(name, reason="left by a run that was stopped")
            await health_checker.start(name, Target(port), wait=True)
        database.close()
        await alerted("database is down")
        async with await asyncio.start_server(hang_up, "127.0.0.1", ports["database"]):
            texts = await alerted("database is up again")
            for job, key in ((health_checker, "web"), (health_checker, "database"), (alerts, "on-call")):
                await job.terminate(key)
        return texts, {name: (await health_checker.state(name) or Target(port)).history for name, port in ports.items()}


if __name__ == "__main__":
    asyncio.run(main())
