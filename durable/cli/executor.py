"""durable executor: run the tasks of an app until a signal comes."""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final

from rich.console import Console
from rich.logging import RichHandler
from rich.status import Status as Spinner

from durable.app import Durable
from durable.cli.exits import Exit
from durable.cli.load import load_app
from durable.cli.output import error_console
from durable.cli.stopping import Stopping
from durable.executor import Executor
from durable.settings import ExecutorSettings

__all__ = ["add_arguments", "run"]

_log = logging.getLogger("durable")
_BEYOND_GRACE: Final = 4.5
"""Seconds after the grace at which the process ends in any case."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("app", metavar="module:app", help="the app, such as shop.main:app; it names its own database")
    parser.add_argument("--queue", action="append", metavar="Q", help="serve this queue; may be given several times"
                        " (default: default)")  # fmt: skip
    parser.add_argument("--concurrency", type=_number, metavar="N", help="handlers that run at once (default: 100)")
    parser.add_argument("--lease", metavar="S", help="time after which a dead executor's work is taken over"
                        ' (default: "15s")')  # fmt: skip
    parser.add_argument("--grace", metavar="S", help="time that running handlers get to finish after a signal"
                        ' (default: "30s"); the process ends within 5 s more')  # fmt: skip
    parser.add_argument("--poll-interval", metavar="S", help="longest time that ready work waits if every hint is lost"
                        ' (default: "1s")')  # fmt: skip
    parser.add_argument("--retention", metavar="S", help="time for which executions that have ended are kept"
                        ' (default: "30d"); "never" deletes nothing')  # fmt: skip
    parser.add_argument("--migrate", action="store_true", help="bring the tables up to date first")


def run(args: argparse.Namespace) -> int:
    given: dict[str, Any] = {
        "queues": args.queue,
        "concurrency": args.concurrency,
        "lease": _duration(args.lease),
        "grace": _duration(args.grace),
        "poll_interval": _duration(args.poll_interval),
    }
    settings = {name: value for name, value in given.items() if value is not None}
    if args.retention is not None:
        settings["retention"] = None if args.retention == "never" else _duration(args.retention)
    checked = ExecutorSettings(**settings)
    app = load_app(args.app)
    console = error_console()
    _configure_logging(console)
    if args.migrate:
        _log.info("migrations applied: %s", ", ".join(app.storage.migrate()) or "none, the schema is up to date")
    _warn_of_unserved(app, checked)
    asyncio.run(_serve(app, settings, checked, console))
    return Exit.OK


async def _serve(app: Durable, settings: dict[str, Any], checked: ExecutorSettings, console: Console) -> None:
    """Run an executor until the first signal; also a signal that comes while the database is still being opened."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def on_first() -> None:
        with suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(stop.set)

    with Stopping(on_first, limit=checked.grace + _BEYOND_GRACE):
        async with AsyncExitStack() as stack:
            opening = asyncio.ensure_future(stack.enter_async_context(app.executor(**settings)))
            stopped = asyncio.ensure_future(stop.wait())
            await asyncio.wait({opening, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                opening.cancel()
                await asyncio.wait({opening})
                return
            executor = await opening
            async with _reporting(executor, checked, console):
                await stopped
            _log.info("stopping: running handlers get %g s; a second signal ends them at once", checked.grace)


@asynccontextmanager
async def _reporting(executor: Executor, checked: ExecutorSettings, console: Console) -> AsyncGenerator[None]:
    """Keep a line about the executor at the bottom of a terminal; nothing where there is none."""
    if not console.is_terminal:
        yield
        return
    with console.status("starting") as spinner:
        task = asyncio.create_task(_report(executor, checked, spinner))
        try:
            yield
        finally:
            task.cancel()


async def _report(executor: Executor, checked: ExecutorSettings, spinner: Spinner) -> None:
    while True:
        spinner.update(f"{executor.running} of {checked.concurrency} slots run, queues {', '.join(checked.queues)}")
        await asyncio.sleep(1.0)


def _configure_logging(console: Console) -> None:
    """Readable lines on stderr, unless the app's own module has configured logging."""
    if console.is_terminal:
        handler: logging.Handler = RichHandler(console=console, show_path=False, markup=False)
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _warn_of_unserved(app: Durable, checked: ExecutorSettings) -> None:
    """A task whose own queue is not served here may still be served elsewhere, so this is only said."""
    queues = {app[name].options.queue for name in app} - set(checked.queues)
    for queue in sorted(queues):
        names = sorted(name for name in app if app[name].options.queue == queue)
        _log.warning(
            "tasks of queue %r wait for another executor, or for --queue %s: %s", queue, queue, ", ".join(names)
        )


def _number(text: str) -> int | str:
    """A number, or the text for ExecutorSettings to refuse with its own words."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def _duration(text: str | None) -> float | str | None:
    """A bare number means seconds here; anything else must carry its unit."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return text
