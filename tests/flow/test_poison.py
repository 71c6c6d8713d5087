"""What kills its process is given up, and nothing that was near it: neither claimed with it nor run beside it."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from durable import Status

from .place import PATIENCE, PostgresPlace
from .poison_worker import declared

INNOCENTS = 20


def close(dead: subprocess.Popen[bytes]) -> None:
    assert dead.stdin is not None
    dead.stdin.close()


@contextmanager
def process(place: PostgresPlace) -> Iterator[Callable[[], int]]:
    """A process with an executor, started again whenever it is asked and found dead; gives how often it died."""
    command = [sys.executable, "-m", "tests.flow.poison_worker", place.dsn, place.schema]
    deaths = 0
    living = subprocess.Popen([*command, str(deaths)], stdin=subprocess.PIPE)

    def keep() -> int:
        nonlocal living, deaths
        if living.poll() is not None:
            assert living.returncode == -9, "it was to die by SIGKILL only"
            deaths += 1
            close(living)
            living = subprocess.Popen([*command, str(deaths)], stdin=subprocess.PIPE)
        return deaths

    try:
        yield keep
    finally:
        living.kill()
        living.wait()
        close(living)


async def test_gen_06_what_was_beside_a_killer_completes(postgres: PostgresPlace) -> None:
    """With max_deliveries=2 each of them can afford to die beside the killer once, and never again."""
    app = postgres.app()
    kill, *innocents = declared(app)
    calls = [innocents[n % 2].child(n) for n in range(INNOCENTS)]
    calls.insert(INNOCENTS // 2, kill.child())
    async with app:
        handles = await app.enqueue_calls(calls)
        (killer,) = [handle for handle in handles if handle.task_name == "killer"]
        with process(postgres) as keep:
            async with asyncio.timeout(PATIENCE * 2):
                while (await app.wait(handles, timeout=0.1))[1]:
                    keep()
            assert keep() == 2
        results = [await handle.result(0) for handle in handles if handle is not killer]
        poisoned = await app.execution(killer.execution_id)
    assert results == list(range(INNOCENTS))
    assert (poisoned.status, poisoned.reason, poisoned.deliveries) == (Status.FAILED, "poisoned", 2)
