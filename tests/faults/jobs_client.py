"""The client process of a jobs run: `python -m tests.faults.jobs_client '{…}'`. It calls jobs until it is told to rest.

Every call is noted before it is made and when it is answered. A call whose outcome is unknown, because it took too long
or its connection was cut, is made again as it was, with the same event id, until there is an answer.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from durable import Durable
from durable.errors import StorageUnavailable
from durable.jobs import InvalidJobState
from storage_postgres import PostgresStorage
from tests.faults.jobs_app import TALLIES, Added, Jobs, Mended, Sum, keyed_jobs
from tests.faults.ledger import Ledger

__all__ = ["ClientSettings", "Load"]

_HASTY = 0.05
"""Part of all calls that are given so little time that their outcome is often unknown."""
_AGAIN = 0.05
"""Part of all events that are sent once more after they were accepted."""


@dataclass(frozen=True)
class ClientSettings:
    """What the run tells the client."""

    dsn: str
    schema: str
    folder: str
    instances: int
    rate: float
    """Calls per second, all together."""
    seed: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @property
    def keys(self) -> dict[str, list[str]]:
        """The keys of each job: 4 of 10 instances are of `order` and of `batch` each, the others tick or tally."""
        many = [str(number) for number in range(self.instances * 2 // 5)]
        few = max(self.instances - 2 * len(many) - TALLIES, 1)
        return {"order": many, "batch": many, "ticker": [str(number) for number in range(few)]}


class _Alone:
    """No handler runs in the client."""

    def enter(self, name: str) -> bool:
        raise AssertionError("a handler ran in the client")

    def leave(self, name: str) -> None:
        raise AssertionError("a handler ran in the client")


class Load:
    """Calls at a steady rate, each in a task of its own."""

    def __init__(self, jobs: Jobs, ledger: Ledger, settings: ClientSettings) -> None:
        self._jobs = jobs
        self._ledger = ledger
        self._random = Random(settings.seed)
        self._keys = settings.keys
        self._rate = settings.rate
        self._calls = count(1)
        self._open: set[asyncio.Task[None]] = set()
        self._may_call = asyncio.Event()
        self._may_call.set()

    async def begin(self) -> None:
        """Call every instance once, so that all of them are there."""
        first = [(job, key) for job, keys in self._keys.items() for key in keys]
        self._random.shuffle(first)
        for job, key in first:
            self._spawn(self._start(key) if job == "ticker" else self._event(job, key))
            await asyncio.sleep(0.5 / self._rate)
        await self.drain()

    async def go_on(self) -> None:
        while True:
            await self._may_call.wait()
            self._spawn(self._any())
            await asyncio.sleep(self._random.expovariate(self._rate))

    def hold(self) -> None:
        """Call nothing new until `go`: the executors are behind."""
        self._may_call.clear()

    def go(self) -> None:
        self._may_call.set()

    async def drain(self) -> None:
        while self._open:
            await asyncio.wait(self._open)

    async def settle(self) -> None:
        """Handle what failed for good, and let no job tick."""
        keys = self._keys
        await self._all(
            [
                *(self.call("redrive", "task:order", key, lambda key=key: self._jobs.order.redrive(key))
                  for key in keys["order"]),
                *(self.call("redrive", "debounce:batch", key, lambda key=key: self._jobs.batch.redrive(key))
                  for key in keys["batch"]),
                *(self._ticker("pause", key, self._jobs.ticker.pause) for key in keys["ticker"]),
            ]
        )  # fmt: skip

    async def resume(self) -> None:
        await self._all([self._ticker("resume", key, self._jobs.ticker.resume) for key in self._keys["ticker"]])

    async def _all(self, calls: list[Awaitable[None]]) -> None:
        for start in range(0, len(calls), 16):
            await asyncio.gather(*calls[start : start + 16])

    def _spawn(self, call: Any) -> None:
        task = asyncio.create_task(call)
        self._open.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._ledger.note("wrong", text=f"a call of the client failed: {error!r}")

    # --- calls ---------------------------------------------------------------------------------------------

    async def _any(self) -> None:
        job = self._random.choices(["order", "batch", "ticker"], [50, 35, 15])[0]
        keys = self._keys[job]
        # Some keys are called often, so that their turns meet senders, and batches fill.
        key = self._random.choice(keys[: max(len(keys) // 50, 1)] if self._random.random() < 0.4 else keys)
        dice = self._random.random()
        match job:
            case "order" if dice < 0.8:
                await self._event(job, key)
            case "order" if dice < 0.9:
                await self.call("trigger", "task:order", key, lambda: self._jobs.order.trigger(key))
            case "order":
                await self._end("task:order", key, self._jobs.order.terminate)
            case "batch" if dice < 0.85:
                await self._event(job, key)
            case "batch" if dice < 0.92:
                await self.call("flush", "debounce:batch", key, lambda: self._jobs.batch.flush(key, wait=False))
            case "batch":
                await self.call("clear", "debounce:batch", key, lambda: self._jobs.batch.clear(key))
            case _ if dice < 0.4:
                await self._ticker("trigger", key, self._jobs.ticker.trigger)
            case _ if dice < 0.8:
                await self._ticker("pause", key, self._jobs.ticker.pause)
                await asyncio.sleep(self._random.random())
                await self._ticker("resume", key, self._jobs.ticker.resume)
            case _ if dice < 0.9:
                await self._start(key)
            case _:
                await self._end("continuous:ticker", key, self._jobs.ticker.terminate)
                await self._start(key)

    async def _event(self, job: str, key: str) -> None:
        event = Added(
            f"e{next(self._calls)}", self._random.randint(1, 9), self._random.random() < 0.2,
            self._random.random() < 0.01,
        )  # fmt: skip

        def send() -> Awaitable[Any]:
            if job == "order":
                return self._jobs.order.send(key, event, event_id=event.uid)
            return self._jobs.batch.add(key, event, event_id=event.uid)

        instance = f"task:{job}" if job == "order" else f"debounce:{job}"
        await self.call("event", instance, key, send, uid=event.uid)
        if self._random.random() < _AGAIN:
            await self.call("event", instance, key, send, uid=event.uid)

    async def _start(self, key: str) -> None:
        await self.call("start", "continuous:ticker", key, lambda: self._jobs.ticker.start(key, Sum()))

    async def _ticker(self, op: str, key: str, do: Callable[[str], Awaitable[Any]]) -> None:
        await self.call(op, "continuous:ticker", key, lambda: do(key))

    async def _end(self, job: str, key: str, terminate: Callable[..., Awaitable[Any]]) -> None:
        reason = f"end-{next(self._calls)}"
        await self.call("terminate", job, key, lambda: terminate(key, reason=reason), reason=reason)

    async def call(self, op: str, job: str, key: str, make: Callable[[], Awaitable[Any]], **fields: Any) -> None:
        """Call until there is an answer."""
        id_ = f"{op}-{next(self._calls)}"
        self._ledger.note("call", id_, op=op, job=f"{job}:{key}", time=time.time(), **fields)
        limit = self._random.uniform(0.001, 0.02) if self._random.random() < _HASTY else 20.0
        tries = 0
        while True:
            tries += 1
            try:
                async with asyncio.timeout(limit):
                    result = await make()
                break
            except (TimeoutError, StorageUnavailable):
                limit = 20.0
            except InvalidJobState as error:
                result = error
                break
        self._ledger.note("answer", id_, time=time.time(), tries=tries, result=str(result))


async def serve(settings: ClientSettings) -> None:
    """Call, and obey the lines of the standard input: hold, go, rest, resume. The end of it ends this process."""
    folder = Path(settings.folder)
    ledger, mended = Ledger(folder), Mended(folder)
    app = Durable(storage=PostgresStorage(settings.dsn, schema=settings.schema))
    jobs = keyed_jobs(app, ledger, _Alone(), mended)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with app:
        load = Load(jobs, ledger, settings)
        await load.begin()
        ledger.note("ready", executor="client")
        calling = asyncio.create_task(load.go_on())
        async for line in lines:
            match line.strip():
                case b"hold":
                    load.hold()
                case b"go":
                    load.go()
                case b"rest":
                    calling.cancel()
                    await load.drain()
                    mended.mend()
                    await load.settle()
                case _:
                    await load.resume()
            ledger.note("obeyed", word=line.decode().strip())


if __name__ == "__main__":
    asyncio.run(serve(ClientSettings(**json.loads(sys.argv[1]))))
