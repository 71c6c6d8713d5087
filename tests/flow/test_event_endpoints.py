"""Events sent to an HTTP endpoint: a real server on this machine that answers as a test wants, or not at all."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from durable import ConfigurationError, Durable, Retry, Task, TaskContext, constant

from .place import PATIENCE, running, soon

HANG = 0
"""Instead of a status: take the request and never answer."""


class Endpoint:
    """What a server was sent. `answers` are used up one for each request; then every answer is 200."""

    def __init__(self, answers: list[int], port: int) -> None:
        self.answers = answers
        self.bodies: list[dict[str, Any]] = []
        self.accepted: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.port = port
        self.end = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/events"

    async def has(self, count: int) -> list[dict[str, Any]]:
        """The events that were accepted, as soon as there are so many."""
        async with asyncio.timeout(PATIENCE):
            while len(self.accepted) < count:
                await asyncio.to_thread(self.end.wait, 0.01)
        assert len(self.accepted) == count
        return self.accepted

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.bodies.append(body)
        self.headers.append(dict(handler.headers))
        self.paths.append(handler.path)
        status = self.answers.pop(0) if self.answers else 200
        if status == HANG:
            self.end.wait(PATIENCE)
            return
        if 200 <= status < 300:
            self.accepted += body["events"]
        handler.send_response(status)
        if 300 <= status < 400:
            handler.send_header("Location", "/elsewhere")
        handler.send_header("Content-Length", "0")
        handler.end_headers()


@contextmanager
def serving(*answers: int, port: int = 0) -> Iterator[Endpoint]:
    endpoint = Endpoint(list(answers), port)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            endpoint.answer(self)

        def do_GET(self) -> None:
            endpoint.paths.append(f"GET {self.path}")
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        endpoint.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield endpoint
        finally:
            endpoint.end.set()
            server.shutdown()
            thread.join()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def declared(app: Durable) -> Task[[int], int]:
    """A task that fails twice and then completes: three events, if all are wanted."""

    @app.task(retry=Retry(max_attempts=3, delay=constant(0)))
    async def work(ctx: TaskContext, n: int) -> int:
        if ctx.attempt < 3:
            raise LookupError(f"attempt {ctx.attempt}")
        return n

    return work


async def turns(app: Durable, work: Task[[int], int], count: int) -> None:
    handles = await work.enqueue_many(range(count))
    done, _ = await soon(app.wait(handles))
    assert len(done) == count


def assert_in_order(events: list[dict[str, Any]]) -> None:
    for subject in {event["subject"] for event in events}:
        mine = [event for event in events if event["subject"] == subject]
        assert [event["data"]["attempt"] for event in mine] == [1, 2, 3]


async def test_events_are_posted_with_what_the_endpoint_asked_to_be_told(app: Durable) -> None:
    with serving(204) as endpoint:
        work = declared(app)
        app.events.to_http(endpoint.url, env="test", service_key="key", headers={"Authorization": "Bearer me"})
        async with running(app):
            await turns(app, work, 1)
            events = await endpoint.has(3)

    assert_in_order(events)
    assert [event["name"] for event in events] == ["execution.failed", "execution.failed", "execution.completed"]
    assert {(event["kind"], event["task"], event["env"], event["service_key"]) for event in events} == {
        ("task", "work", "test", "key")}  # fmt: skip
    errors = [{"type": "LookupError", "message": f"attempt {attempt}"} for attempt in (1, 2)]
    assert [event.get("error") for event in events] == [*errors, None]
    assert not any("payload" in event for event in events)
    assert endpoint.headers[0]["Content-Type"] == "application/json"
    assert endpoint.headers[0]["Authorization"] == "Bearer me"


@pytest.mark.parametrize("answers", [(500, 503), (404,), (301,), (307,)], ids=str)
async def test_an_endpoint_that_refuses_is_sent_the_same_again(app: Durable, answers: tuple[int, ...]) -> None:
    with serving(*answers) as endpoint:
        work = declared(app)
        app.events.to_http(endpoint.url)
        async with running(app):
            await turns(app, work, 4)
            assert_in_order(await endpoint.has(12))

    assert set(endpoint.paths) == {"/events"}
    assert len(endpoint.bodies) > len(answers)


async def test_an_endpoint_that_does_not_answer_is_sent_the_same_again(app: Durable) -> None:
    with serving(HANG) as endpoint:
        work = declared(app)
        app.events.to_http(endpoint.url, timeout="100ms")
        async with running(app):
            await turns(app, work, 2)
            assert_in_order(await endpoint.has(6))
            endpoint.end.set()

    assert endpoint.bodies[0]["events"][0]["id"] == endpoint.accepted[0]["id"]


async def test_turns_go_on_while_the_endpoint_is_down_and_nothing_is_lost(app: Durable) -> None:
    port = closed_port()
    work = declared(app)
    app.events.to_http(f"http://127.0.0.1:{port}/events")
    async with running(app):
        await turns(app, work, 5)
        assert await app.events.pending() == {"http": 15}
        with serving(port=port) as endpoint:
            events = await endpoint.has(15)
            async with asyncio.timeout(PATIENCE):
                while (await app.events.pending())["http"]:
                    pass

    assert_in_order(events)
    assert len({event["id"] for event in events}) == 15


async def test_a_post_holds_no_more_than_a_batch(app: Durable) -> None:
    with serving(500) as endpoint:
        work = declared(app)
        app.events.to_http(endpoint.url, batch=4, names=["execution.completed"])
        async with running(app):
            await turns(app, work, 10)
            await endpoint.has(10)

    assert max(len(body["events"]) for body in endpoint.bodies) <= 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"endpoint": "ftp://host/"}, "endpoint"),
        ({"endpoint": "https://"}, "endpoint"),
        ({"endpoint": "https://user:secret@host/"}, "endpoint"),
        ({"endpoint": "https://host/a b"}, "endpoint"),
        ({"endpoint": "http://[::1"}, "endpoint"),
        ({"endpoint": 1}, "endpoint"),
        ({"headers": {"X": "a\nb"}}, "header 'X'"),
        ({"headers": [1]}, "headers is a list"),
        ({"headers": 0}, "headers is a int"),
        ({"headers": {1: "a"}}, "header 1 is"),
        ({"headers": {"X": b"secret"}}, "header 'X' is a bytes"),
        ({"env": 5}, "env is a int"),
        ({"service_key": b"secret"}, "service_key is a bytes"),
        ({"batch": 0}, "batch"),
        ({"timeout": 0}, "timeout"),
    ],
    ids=str,
)
def test_an_endpoint_that_cannot_be_meant_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        Durable("memory:").events.to_http(**{"endpoint": "https://host/", **options})
    assert "secret" not in str(caught.value)
