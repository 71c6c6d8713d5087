"""Send events to an HTTP endpoint: one POST at a time, in a thread, within a limit of time, and nowhere else."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

from durable.checks import shown
from durable.errors import ConfigurationError, DeliveryFailed
from durable.events.event import LifecycleEvent

__all__ = ["HttpEndpoint"]

_SUCCESS: Final = range(200, 300)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Events and their keys go to the endpoint that was named; a redirect is an answer like any other."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class HttpEndpoint:
    """One endpoint. Connections are made anew for each batch; https is checked against the system's authorities."""

    def __init__(
        self, endpoint: str, *, env: str | None, service_key: str | None, headers: Mapping[str, str], timeout: float
    ) -> None:
        """Raises ConfigurationError for what is no http or https address, and for headers that cannot be sent."""
        self._endpoint = _checked_endpoint(endpoint)
        for name, value in (("env", env), ("service_key", service_key)):
            if value is not None and not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigurationError(f"{name} is a {type(value).__name__}; give a text")
        self._added = {name: value for name, value in (("env", env), ("service_key", service_key)) if value is not None}
        self._headers = {"Content-Type": "application/json", "User-Agent": "durable", **_checked_headers(headers)}
        self._timeout = timeout
        self._opener = urllib.request.build_opener(_NoRedirects)

    async def send(self, events: Sequence[LifecycleEvent]) -> None:
        """Return when the endpoint has answered with success; raises DeliveryFailed."""
        body = json.dumps({"events": [{**event.to_json(), **self._added} for event in events]}).encode()
        try:
            # The thread's limit is for each of its waits; this one is for all of them together.
            async with asyncio.timeout(self._timeout * 2):
                status = await asyncio.to_thread(self._post, body)
        except TimeoutError:
            raise DeliveryFailed("the endpoint did not answer in time") from None
        if status not in _SUCCESS:
            raise DeliveryFailed(f"the endpoint answered {status}")

    def _post(self, body: bytes) -> int:
        request = urllib.request.Request(self._endpoint, data=body, headers=self._headers, method="POST")  # noqa: S310 - the scheme is checked
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except (OSError, HTTPException, ValueError) as error:
            # The reason names a host or a port at most; an address may hold a key, so it is not repeated.
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise DeliveryFailed(f"the endpoint cannot be reached: {type(reason).__name__}") from error


def _checked_endpoint(endpoint: object) -> str:
    if not isinstance(endpoint, str):
        raise ConfigurationError(f"endpoint is a {type(endpoint).__name__}; give a str")
    try:
        parts = urlsplit(endpoint)
        is_address = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
        )
    except ValueError:
        is_address = False
    if not is_address or not endpoint.isascii() or not endpoint.isprintable() or " " in endpoint:
        raise ConfigurationError(
            "endpoint must be an address of the form https://host/path, in ASCII; a password goes in headers"
        )
    return endpoint


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(headers, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"headers is a {type(headers).__name__}; give a mapping of names to texts")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"header {shown(name)} is a {type(value).__name__}; give texts")
        if not (name.isascii() and name.isprintable() and value.isascii() and value.isprintable()):
            raise ConfigurationError(f"header {name[:60]!r} holds what no header can hold")
    return dict(headers)
