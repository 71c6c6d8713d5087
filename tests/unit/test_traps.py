"""A body that does by itself what a replay would do again is warned of, and no other."""

from __future__ import annotations

import importlib.util
import random
import time
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

from durable import Durable, WorkflowContext, WorkflowTrapWarning
from durable.workflow.traps import traps_in

HEAD = """
from __future__ import annotations
import asyncio, asyncio as aio, datetime as dt, functools, glob, io, multiprocessing, os, pathlib, random, secrets
import shutil, socket
import sqlite3, subprocess, tempfile, threading, time, urllib.request, uuid
from asyncio import sleep as nap, to_thread
from collections import defaultdict
from datetime import datetime
from os import environ, getenv as variable, urandom
from os.path import exists
from pathlib import Path
from random import randint, random as draw
from time import sleep as pause, time as t
import psycopg, requests
from requests import get as fetch
from durable import WorkflowContext, step

HERE = pathlib.Path(__file__)
NAMES = {"a", "b"}
PRIMES = frozenset({2, 3, 5})
clock = datetime.now
seeded = random.Random(7)

def helper():
    return datetime.now()

async def asks(c: WorkflowContext, found: set[str], at=time.time()):
    for name in found:
        await c.step(print, name)

def helps():
    return helper()

def again(n):
    return again(n - 1) if n else draw()

@functools.cache
def cached():
    return time.time()

@step
def stamped():
    return time.time()

def listed(found: set[str]):
    return [name for name in found]

def factory():
    def inner():
        return time.time()
    return inner

def meant():
    return time.time()  # durable: ok

TEXT = "x"
NUMBER = 7
"""

TRAPS = [
    # The line, what it is found for, what the warning says to use.
    ("time.time()", "time.time", "ctx.now()"),
    ("t()", "time.time", "ctx.now()"),
    ("time.time_ns()", "time.time_ns", "ctx.now()"),
    ("time.monotonic_ns()", "time.monotonic_ns", "ctx.now()"),
    ("time.perf_counter()", "time.perf_counter", "ctx.now()"),
    ("time.perf_counter_ns()", "time.perf_counter_ns", "ctx.now()"),
    ("time.process_time()", "time.process_time", "ctx.now()"),
    ("time.strftime('%Y')", "time.strftime", "ctx.now()"),
    ("time.localtime()", "time.localtime", "ctx.now()"),
    ("time.ctime()", "time.ctime", "ctx.now()"),
    ("datetime.now(dt.UTC)", "datetime.datetime.now", "ctx.now()"),
    ("clock()", "datetime.datetime.now", "ctx.now()"),
    ("dt.datetime.utcnow()", "datetime.datetime.utcnow", "ctx.now()"),
    ("dt.date.today()", "datetime.date.today", "ctx.now()"),
    ("now = time.time\nnow()", "time.time", "ctx.now()"),
    ("import time as watch\nwatch.time()", "time.time", "ctx.now()"),
    ("from time import monotonic as m\nm()", "time.monotonic", "ctx.now()"),
    ("asyncio.get_running_loop().time()", "asyncio.loop.time", "ctx.now()"),
    ("pause(1)", "time.sleep", "ctx.sleep"),
    ("await aio.sleep(1)", "asyncio.sleep", "ctx.sleep"),
    ("await nap(0.5)", "asyncio.tasks.sleep", "ctx.sleep"),
    ("loop = asyncio.get_running_loop()\nloop.call_later(1, print)", "asyncio.loop.call_later", "ctx.sleep"),
    ("await asyncio.wait_for(ctx.sleep(1), 5)", "asyncio.wait_for", "ctx.timeout"),
    ("await asyncio.wait([], timeout=5)", "asyncio.wait", "ctx.timeout"),
    ("async with asyncio.timeout(5):\n    pass", "asyncio.timeout", "ctx.timeout"),
    ("async with asyncio.timeout_at(5):\n    pass", "asyncio.timeout_at", "ctx.timeout"),
    ("asyncio.as_completed([ctx.sleep(1), ctx.sleep(2)])", "asyncio.as_completed", "asyncio.create_task"),
    ("asyncio.as_completed(ctx.sleep(n) for n in (1, 2))", "asyncio.as_completed", "asyncio.create_task"),
    ("sleeps = [ctx.sleep(n) for n in (1, 2)]\nasyncio.as_completed(sleeps)", "asyncio.as_completed", "create_task"),
    ("random.random()", "random.random", "ctx.random"),
    ("draw()", "random.Random.random", "ctx.random"),
    ("randint(1, 2)", "random.Random.randint", "ctx.random"),
    ("random.Random()", "random.Random", "ctx.random"),
    ("secrets.token_hex()", "secrets.token_hex", "ctx.random"),
    ("urandom(8)", "os.urandom", "ctx.random"),
    ("uuid.uuid1()", "uuid.uuid1", "ctx.uuid()"),
    ("uuid.uuid4()", "uuid.uuid4", "ctx.uuid()"),
    ("from uuid import uuid4 as new\nnew()", "uuid.uuid4", "ctx.uuid()"),
    ("open('x')", "io.open", "ctx.step"),
    ("io.open('x')", "io.open", "ctx.step"),
    ("Path('x').read_text()", "pathlib.Path.read_text", "ctx.step"),
    ("pathlib.Path('x').write_text('')", "pathlib.Path.write_text", "ctx.step"),
    ("(Path('x') / 'y').open()", "pathlib.Path.open", "ctx.step"),
    ("path = Path('x').with_suffix('.y')\npath.exists()", "pathlib.Path.exists", "ctx.step"),
    ("HERE.parent.joinpath('x').read_bytes()", "pathlib.Path.read_bytes", "ctx.step"),
    ("where.unlink()", "pathlib.Path.unlink", "ctx.step"),
    ("exists('x')", "os.path.exists", "ctx.step"),
    ("os.listdir('x')", "os.listdir", "ctx.step"),
    ("os.system('x')", "os.system", "ctx.step"),
    ("shutil.copy('x', 'y')", "shutil.copy", "ctx.step"),
    ("glob.glob('*')", "glob.glob", "ctx.step"),
    ("tempfile.mkdtemp()", "tempfile.mkdtemp", "ctx.step"),
    ("os.environ['x']", "os.environ", "argument"),
    ("environ.get('x')", "os.environ", "argument"),
    ("'x' in os.environ", "os.environ", "argument"),
    ("variable('x')", "os.getenv", "argument"),
    ("os.getpid()", "os.getpid", "argument"),
    ("sqlite3.connect(':memory:')", "sqlite3.connect", "ctx.step"),
    ("psycopg.connect('x')", "psycopg.connect", "ctx.step"),
    ("await psycopg.AsyncConnection.connect('x')", "psycopg.AsyncConnection.connect", "ctx.step"),
    ("from httpx import AsyncClient\nAsyncClient()", "httpx.AsyncClient", "ctx.step"),
    ("import httpx\nhttpx.get('x')", "httpx.get", "ctx.step"),
    ("requests.get('x')", "requests.get", "ctx.step"),
    ("fetch('x')", "requests.api.get", "ctx.step"),
    ("requests.Session()", "requests.Session", "ctx.step"),
    ("urllib.request.urlopen('x')", "urllib.request.urlopen", "ctx.step"),
    ("socket.create_connection(('x', 1))", "socket.create_connection", "ctx.step"),
    ("subprocess.run(['x'])", "subprocess.run", "ctx.step"),
    ("input()", "builtins.input", "ctx.step"),
    ("await to_thread(print)", "asyncio.threads.to_thread", "ctx.step"),
    ("await asyncio.get_event_loop().run_in_executor(None, print)", "asyncio.loop.run_in_executor", "ctx.step"),
    ("threading.Thread(target=print).start()", "threading.Thread", "ctx.child"),
    ("multiprocessing.Process()", "multiprocessing.Process", "ctx.child"),
    ("(lambda: time.time())()", "time.time", "ctx.now()"),
    ("now = lambda: time.time()\nnow()", "time.time", "ctx.now()"),
    ("sorted([1], key=lambda x: draw())", "random.Random.random", "ctx.random"),
    ("[2, 1].sort(key=lambda x: draw())", "random.Random.random", "ctx.random"),
    ("defaultdict(lambda: uuid.uuid4())", "uuid.uuid4", "ctx.uuid()"),
    ("def now():\n    return datetime.now()\nnow()", "datetime.datetime.now", "ctx.now()"),
    ("async def ask():\n    return fetch('x')\nawait ask()", "requests.api.get", "ctx.step"),
    ("async def ask():\n    def now():\n        return t()\n    return now()\nawait ask()", "time.time", "ctx.now()"),
    (
        "async def ask():\n    return t()\nasync with asyncio.TaskGroup() as g:\n    g.create_task(ask())",
        "time.time",
        "now",
    ),
    ("def at(moment=t()):\n    return moment\nawait ctx.step(at)", "time.time", "ctx.now()"),
    ("for name in {'a', 'b'}:\n    await ctx.step(print, name)", "a set", "sorted"),
    ("for name in NAMES:\n    ctx.publish(name, 1)", "a set", "sorted"),
    ("found = set('ab') | {'c'}\nfor name in list(found):\n    ctx.emit(name)", "a set", "sorted"),
    ("await ctx.gather(*(ctx.step(print, name) for name in tags))", "a set", "sorted"),
    ("[await ctx.step(print, n, name) for n, name in enumerate(tags)]", "a set", "sorted"),
    ("await ctx.map(print, frozenset('ab'))", "a set", "sorted"),
    ("return [name for name in {name for name in waits}]", "a set", "sorted"),
    ("return list(tags)", "a set", "sorted"),
    ("await ctx.step(print, [name.upper() for name in tags])", "a set", "sorted"),
    ("ctx.publish('names', tuple(NAMES))", "a set", "sorted"),
    ("helper()", "datetime.datetime.now", "ctx.now()"),
    ("helps()", "datetime.datetime.now", "ctx.now()"),
    ("again(3)", "random.Random.random", "ctx.random"),
    ("await asks(ctx, tags)", "a set", "sorted"),
    ("asyncio.create_task(asks(ctx, tags))", "a set", "sorted"),
    ("hash('x')", "builtins.hash", "hashlib"),
    ("hash((1, f'{waits}'))", "builtins.hash", "hashlib"),
    ("hash(word), hash(word)", "builtins.hash", "hashlib"),
    ("hash(TEXT)", "builtins.hash", "hashlib"),
    ("hash(str(waits))", "builtins.hash", "hashlib"),
]

NO_TRAPS = [
    "ctx.now(), ctx.random.random(), ctx.uuid()",
    "await ctx.sleep(1)",
    "time.strftime('%Y', time.gmtime(0))",
    "time.localtime(0), time.ctime(0)",
    "datetime(2030, 1, 1, tzinfo=dt.UTC), datetime.fromisoformat('2030-01-01')",
    "random.Random(7).random(), seeded.random()",
    "source = random.Random(ctx.now().isoformat())\nsource.random()",
    "secrets.compare_digest('a', 'b')",
    "uuid.uuid5(uuid.NAMESPACE_DNS, 'x')",
    "await aio.sleep(0)",
    "await asyncio.wait_for(ctx.sleep(1), None)",
    "async with asyncio.timeout(None):\n    pass",
    "await asyncio.wait([asyncio.create_task(ctx.sleep(1))], return_when=asyncio.FIRST_COMPLETED)",
    "asyncio.as_completed([asyncio.create_task(ctx.sleep(n)) for n in (1, 2)])",
    "asyncio.as_completed(waits)",
    "asyncio.create_task(asyncio.Event().wait())",
    "await asyncio.gather(ctx.sleep(1), ctx.sleep(2))",
    "async with asyncio.TaskGroup() as g:\n    g.create_task(ctx.sleep(1))",
    "asyncio.Queue().put_nowait(1)",
    "Path('x') / 'y', Path('x').suffix, os.path.join('x', 'y')",
    "urllib.request.Request('x')",
    "try:\n    pass\nexcept (requests.RequestException, subprocess.CalledProcessError):\n    pass",
    "raise sqlite3.IntegrityError('x')",
    "uuid.uuid4()  # the time has come - durable: ok",
    "print(\n    t(),  # durable: ok\n)",
    # What is a parameter, a variable of its own, or the result of something else is not the module of that name.
    "waits.time(), waits.random()",
    "[time.time() for time in waits]",
    "subprocess = waits\nsubprocess.run()",
    "for socket in waits:\n    socket.socket()",
    "environ = waits\nenviron['x']",
    # Steps may do what they like.
    "await ctx.step(lambda: str(uuid.uuid4()))",
    "now = lambda: time.time()\nawait ctx.step(now)",
    "def now():\n    return datetime.now()\nawait ctx.with_options(name='now').step(now)",
    "async def ask():\n    import time\n    time.time()\n    return open('x')\nawait ctx.transaction(ask)",
    "async def ask():\n    return draw()\nctx.on_rollback(ask)",
    "def now():\n    return t()\ndef ask():\n    return now()\nawait ctx.step(ask)",
    "@step\nasync def ask():\n    return fetch('x')\nawait ctx.step(ask)",
    "await ctx.step(time.time)",
    "await ctx.gather(ctx.step(lambda: t()), ctx.step(lambda: draw()))",
    "class Now:\n    def at(self):\n        return t()\nNow()",
    # Sets whose order does not count, or is that of numbers.
    "for name in sorted({'a', 'b'}):\n    await ctx.step(print, name)",
    "total = 0\nfor name in NAMES:\n    total += len(name)",
    "for n in {1, 2}:\n    await ctx.step(print, n)",
    "for n in PRIMES:\n    await ctx.step(print, n)",
    "for n in numbers:\n    await ctx.step(print, n)",
    "for n in set(range(3)):\n    await ctx.step(print, n)",
    "for name in waits:\n    await ctx.step(print, name)",
    "await ctx.step(print, {'a', 'b'})",
    "await ctx.map(print, ['a', 'b'])",
    "{name: 1 for name in NAMES}",
    "return sorted([name for name in tags])",
    "names = list(tags)\nnames.sort()\nreturn names",
    "return len([name for name in tags])",
    "return [n for n in {n for n in ints}], list(set(ints)), [n for n in numbers]",
    "return sorted(listed(tags))",
    "def names():\n    return list(tags)\nreturn sorted(names())",
    # What is handed on, or is not certainly run here, may do what it likes.
    "await ctx.step(helper)",
    "ctx.on_rollback(helper)",
    "cached(), meant(), factory()",
    "await ctx.step(stamped)",
    "helper = waits\nhelper()",
    "helper()  # durable: ok",
    "hash(1), hash(NUMBER), hash(waits), hash((1, 2.5))",
    "hash = waits\nhash('x')",
]


@pytest.fixture
def body(tmp_path: Path) -> Callable[[str], Any]:
    def make(lines: str) -> Any:
        path = tmp_path / "bodies.py"
        head = (
            "async def body(ctx: WorkflowContext, waits, where: Path, tags: set[str], numbers: set[int], "
            "ints: list[int], word: str) -> object:\n"
        )
        path.write_text(f"{HEAD}\n{head}{indent(lines, '    ')}\n", encoding="utf-8")
        spec = importlib.util.spec_from_file_location("bodies", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.body

    return make


@pytest.mark.parametrize(("lines", "what", "instead"), TRAPS)
def test_a_trap_is_found_and_its_warning_says_what_to_use(
    body: Callable[[str], Any], lines: str, what: str, instead: str
) -> None:
    (trap,) = traps_in(body(lines))

    assert trap.what == what
    assert instead in trap.advice


@pytest.mark.parametrize("lines", NO_TRAPS)
def test_nothing_is_said_of_what_is_none(body: Callable[[str], Any], lines: str) -> None:
    assert traps_in(body(lines)) == []


def test_traps_come_in_the_order_of_lines(body: Callable[[str], Any]) -> None:
    traps = traps_in(body("def now():\n    return t()\npause(1)\nnow()\nprint(draw(), uuid.uuid4())"))

    assert [trap.what for trap in traps] == ["time.time", "time.sleep", "random.Random.random", "uuid.uuid4"]
    assert [trap.line - traps[0].line for trap in traps] == [0, 1, 3, 3]


def test_what_is_no_body_has_none() -> None:
    assert (traps_in(traps_in), traps_in(len)) == ([], [])


def test_the_variables_around_a_body_are_known() -> None:
    now, chance = time.time, random.Random(7)

    async def inner(ctx: WorkflowContext) -> None:
        print(now(), chance.random(), unknown)

    assert [trap.what for trap in traps_in(inner)] == ["time.time"]
    unknown = now


def test_a_trap_is_warned_of_at_its_line_where_the_workflow_is_declared() -> None:
    app = Durable("postgresql://nobody@nowhere.invalid/nothing")
    with pytest.warns(WorkflowTrapWarning, match=r"'.*flow' calls time.time, .*: use ctx.now\(\)") as caught:

        @app.workflow
        async def flow(ctx: WorkflowContext) -> float:
            return time.time()  # here

    (warning,) = caught
    assert warning.filename == __file__
    with open(__file__, encoding="utf-8") as file:
        assert "return time.time()  # here" in file.read().splitlines()[warning.lineno - 1]
    with pytest.warns(WorkflowTrapWarning, match="uuid.uuid4"):

        @flow.finalize
        async def last(ctx: WorkflowContext) -> None:
            uuid.uuid4()


def test_the_warning_can_be_silenced() -> None:
    app = Durable("postgresql://nobody@nowhere.invalid/nothing")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", WorkflowTrapWarning)

        @app.workflow
        async def flow(ctx: WorkflowContext) -> float:
            return time.time()

        assert flow.name == "flow"
