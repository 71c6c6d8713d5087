"""How tests find their server: the DSN given comes first, and Docker counts only if its engine answers soon."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from storage_postgres.testing import DSN_VARIABLE, Server, find_server
from storage_postgres.testing.docker import engine_answers

Answer = Callable[[socket.socket, threading.Event], None]


def is_well(link: socket.socket, _: threading.Event) -> None:
    assert link.recv(4096).startswith(b"GET /_ping ")
    link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")


def is_ill(link: socket.socket, _: threading.Event) -> None:
    link.recv(4096)
    link.sendall(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")


def is_silent(_: socket.socket, is_over: threading.Event) -> None:
    is_over.wait()


def hangs_up(_: socket.socket, __: threading.Event) -> None:
    """Closed by the caller."""


def is_endless(link: socket.socket, is_over: threading.Event) -> None:
    """Byte after byte and never a line, so that no single read ever waits long."""
    try:
        while not is_over.wait(0.01):
            link.sendall(b"x")
    except OSError:
        return


@pytest.fixture
def engine() -> Iterator[Callable[[Answer], str]]:
    """Starts something that answers on a socket in a given way, until the test is over."""
    is_over = threading.Event()
    threads: list[threading.Thread] = []
    with TemporaryDirectory(prefix="durable-") as directory, socket.socket(socket.AF_UNIX) as listener:
        path = Path(directory) / "docker.sock"

        def start(answer: Answer) -> str:
            listener.bind(str(path))
            listener.listen()
            threads.append(threading.Thread(target=serve, args=[answer]))
            threads[-1].start()
            return f"unix://{path}"

        def serve(answer: Answer) -> None:
            link, _ = listener.accept()
            with link:
                answer(link, is_over)

        yield start
        is_over.set()
        for thread in threads:
            thread.join()


def test_an_engine_that_answers_is_there(engine: Callable[[Answer], str]) -> None:
    assert engine_answers(engine(is_well))


@pytest.mark.parametrize("answer", [is_ill, hangs_up, is_silent, is_endless])
def test_an_engine_that_does_not_answer_well_or_soon_is_not_there(
    answer: Answer, engine: Callable[[Answer], str]
) -> None:
    assert not engine_answers(engine(answer), within=0.2)


@pytest.mark.parametrize(
    "host", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:1", "ssh://somebody@somewhere", "nonsense", "tcp://:port"]
)
def test_without_an_engine_there_is_none(host: str) -> None:
    assert not engine_answers(host)


def test_the_host_comes_from_the_environment(engine: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine(is_well))

    assert engine_answers()


def test_the_dsn_given_comes_first_and_its_server_stays(
    postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DSN_VARIABLE, postgres_server.maintenance_dsn)
    server = find_server()
    server.stop()

    assert server.origin == DSN_VARIABLE
    with psycopg.connect(server.dsn("postgres")) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
