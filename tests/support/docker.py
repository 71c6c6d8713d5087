"""Tells whether a Docker engine answers, and runs Postgres in it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import SplitResult, urlsplit

from testcontainers.community.postgres import PostgresContainer

__all__ = ["engine_answers", "start_container"]

DEFAULT_HOST: Final = "unix:///var/run/docker.sock"
IMAGE: Final = "postgres:18"
_SETTINGS: Final = "postgres -c fsync=off -c full_page_writes=off -c synchronous_commit=off -c max_connections=200"


def engine_answers(host: str | None = None, *, within: float = 1.0) -> bool:
    """True when the engine answers GET /_ping with 200 within that many seconds.

    `host` is in the form of DOCKER_HOST, which is read where it is None. The clients' own timeout is a minute, and a
    `docker` on PATH proves nothing.
    """
    deadline = time.monotonic() + within
    try:
        with _connect(urlsplit(host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST), within) as link:
            link.sendall(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
            answer = b""
            while b"\r\n" not in answer:
                link.settimeout(max(deadline - time.monotonic(), 0.001))
                received = link.recv(4096)
                if not received:
                    return False
                answer += received
    except (OSError, ValueError):
        return False
    return answer.split(b"\r\n", 1)[0].split(b" ")[1:2] == [b"200"]


def _connect(address: SplitResult, within: float) -> socket.socket:
    scheme, netloc, path = address.scheme, address.hostname, address.path
    if scheme == "unix":
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(within)
        try:
            link.connect(path)
        except OSError:
            link.close()
            raise
        return link
    if scheme in {"tcp", "http"} and netloc:
        return socket.create_connection((netloc, address.port or 2375), timeout=within)
    raise ValueError(f"no way to ask a Docker engine at {scheme}://")


def start_container() -> tuple[str, Callable[[], None]]:
    """A DSN of a new container, and what stops it. Ask `engine_answers` first: without an engine this may hang."""
    container = PostgresContainer(IMAGE, driver=None).with_command(_SETTINGS)
    container.start()
    return container.get_connection_url(driver=None), container.stop
