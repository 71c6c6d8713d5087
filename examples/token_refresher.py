"""Keep an access token fresh for each customer: a Continuous that asks a token endpoint before the token expires.

Shows a schedule, retries where the endpoint fails, and a job that ends itself when its customer is gone. The endpoint
is an HTTP server on loopback, and its tokens live for two seconds.
Run it with `python -m examples.token_refresher`.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from http.client import HTTPConnection

from durable import Durable, Retry, every, exponential
from durable.jobs import ContinuousContext, ShownStatus

app = Durable()
LIFETIME = timedelta(seconds=2)
RETRY = Retry(5, exponential("50ms"))


@dataclass
class Tokens:
    port: int
    access: str = "none yet"
    refreshes: int = 0
    retries: int = 0


@app.continuous(state=Tokens, schedule=every(LIFETIME / 2), retry=RETRY, on_exhausted="continue")
def token_refresher(ctx: ContinuousContext[Tokens]) -> None:
    """A plain function runs in a thread, so it may wait for the network."""
    old = ctx.state
    with closing(HTTPConnection("127.0.0.1", old.port, timeout=5)) as connection:
        connection.request("POST", f"/token/{ctx.key}", headers={"Authorization": f"Bearer {old.access}"})
        answer = connection.getresponse()
        body = answer.read()
    if answer.status == 404:
        ctx.terminate("the customer is gone")
    if answer.status != 200:
        raise ConnectionError(f"the token endpoint answered {answer.status}")
    access: str = json.loads(body)["access_token"]
    print(f"{ctx.key}: run {ctx.run_count}, attempt {ctx.attempt}: {access}")
    ctx.set_state(Tokens(old.port, access, old.refreshes + 1, old.retries + ctx.attempt - 1))


async def endpoint(seen: Counter[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Gives a token, but fails at everybody's second request, and forgets bob after the third."""
    customer = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode().removeprefix("/token/")
    seen[customer] += 1
    status = 503 if seen[customer] == 2 else 404 if customer == "bob" and seen[customer] > 3 else 200
    body = json.dumps({"access_token": f"{customer}-{seen[customer]}"})
    writer.write(f"HTTP/1.1 {status} -\r\nConnection: close\r\n\r\n{body}".encode())
    writer.close()


async def main() -> dict[str, Tokens | None]:
    """The last tokens of each customer."""
    server = await asyncio.start_server(partial(endpoint, Counter()), "127.0.0.1")
    async with server, app.executor(poll_interval="50ms"), asyncio.timeout(60):
        for customer in ("ada", "bob"):
            await token_refresher.terminate(customer, reason="left by a run that was stopped")
            await token_refresher.start(customer, Tokens(server.sockets[0].getsockname()[1]), wait=True)
        while (bob := await token_refresher.status("bob")).status is not ShownStatus.TERMINATED:
            await asyncio.sleep(0.05)
        print(f"bob: {bob.reason}, after {bob.run_count} runs")
        await token_refresher.terminate("ada", reason="the example ends")
        return {customer: await token_refresher.state(customer) for customer in ("ada", "bob")}


if __name__ == "__main__":
    asyncio.run(main())
