"""The end of a process that was told to stop, whatever holds it up."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.cli.process import Process

HEAD = """
import signal, sys, threading, time
from durable.cli.stopping import Stopping

def say(text):
    print(text, file=sys.stderr, flush=True)
"""


def script(body: str, folder: Path) -> Process:
    return Process(["-c", HEAD + body], cwd=folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_limit_ends_a_process_whose_main_thread_is_blocked(number: signal.Signals, tmp_path: Path) -> None:
    body = """
with Stopping(lambda: say("told"), limit=0.2):
    say("ready")
    lock = threading.Lock(); lock.acquire(); lock.acquire()
"""
    with script(body, tmp_path) as process:
        process.hear("ready")
        process.send(number)
        process.hear("told")
        assert process.end() == 128 + number


def test_the_limit_ends_a_process_that_waits_for_its_threads(tmp_path: Path) -> None:
    body = """
told = threading.Event()
with Stopping(told.set, limit=0.2):
    threading.Thread(target=threading.Event().wait).start()
    say("ready")
    told.wait()
say("left")
"""
    with script(body, tmp_path) as process:
        process.hear("ready")
        process.send(signal.SIGTERM)
        process.hear("left")
        assert process.end() == 143


def test_a_process_that_stops_in_time_has_its_own_exit_code(tmp_path: Path) -> None:
    body = """
told = threading.Event()
with Stopping(told.set, limit=60):
    say("ready")
    told.wait()
sys.exit(7)
"""
    with script(body, tmp_path) as process:
        process.hear("ready")
        process.send(signal.SIGTERM)
        assert process.end() == 7


def test_without_a_signal_everything_is_as_before(tmp_path: Path) -> None:
    # A shell may have started the tests with SIGINT ignored, as it does in the background.
    body = """
before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
with Stopping(lambda: say("told"), limit=0):
    assert signal.getsignal(signal.SIGTERM) is not before[0]
assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
assert signal.set_wakeup_fd(-1) == -1
say("ready")
threading.Event().wait()
"""
    with script(body, tmp_path) as process:
        process.hear("ready")
        process.send(signal.SIGTERM)
        assert process.end() == -signal.SIGTERM
        assert "told" not in process.said


def test_another_signal_is_none_of_its_business(tmp_path: Path) -> None:
    body = """
told, other = threading.Event(), threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: other.set())
with Stopping(told.set, limit=60):
    say("ready")
    other.wait()
    assert not told.is_set()
    say("other")
    told.wait()
sys.exit(7)
"""
    with script(body, tmp_path) as process:
        process.hear("ready")
        process.send(signal.SIGUSR1)
        process.hear("other")
        process.send(signal.SIGTERM)
        assert process.end() == 7
