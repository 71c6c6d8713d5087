"""Serve an ASGI app on loopback, as far as the examples need it; a real project has uvicorn, hypercorn or granian.

One request for each connection, a body only with its Content-Length, no lifespan, no limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

__all__ = ["App", "Message", "Receive", "Send", "serving"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


@asynccontextmanager
async def serving(app: App) -> AsyncGenerator[int]:
    """Gives the port while the app is served."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).strip().split(b"\r\n")
        method, path, _ = first.decode().split()
        headers = [(name.lower(), value) for name, value in (line.split(b": ", 1) for line in lines)]
        body = await reader.readexactly(int(dict(headers).get(b"content-length", b"0")))

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                writer.write(b"HTTP/1.1 %d -\r\nConnection: close\r\n\r\n" % message["status"])
            else:
                writer.write(message["body"])

        await app({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1")
    async with server:
        yield server.sockets[0].getsockname()[1]
