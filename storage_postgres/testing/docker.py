"""Tells whether a Docker engine answers, and runs Postgres in it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

__all__ = ["engine_answers", "is_usable", "start_container"]

DEFAULT_HOST: Final = "unix:///var/run/docker.sock"
IMAGE: Final = "postgres:18"
_CONTAINERS: Final = "testcontainers.community.postgres"
_SETTINGS: Final = "postgres -c fsync=off -c full_page_writes=off -c synchronous_commit=off -c max_connections=200"


def is_usable() -> bool:
    """True when testcontainers is installed and an engine answers within a second."""
    try:
        is_installed = find_spec(_CONTAINERS) is not None
    except ModuleNotFoundError:  # there is none of its parents, or it is older than this module of it
        return False
    return is_installed and engine_answers()


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
    """A DSN of a new container, and what stops it. Ask `is_usable` first: without an engine this may hang."""
    # An extra that nothing but this needs, and untyped.
    containers: Any = import_module(_CONTAINERS)
    container = containers.PostgresContainer(IMAGE, driver=None).with_command(_SETTINGS)
    container.start()
    return container.get_connection_url(driver=None), container.stop
