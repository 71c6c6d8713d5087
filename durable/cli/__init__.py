"""The command line `durable`: the table of commands, and from arguments to an exit code."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from io import TextIOWrapper
from typing import Final, NamedTuple

from durable.cli import cancel, counts, doctor, executor, explain, history, migrate, pools, replay, retry, show
from durable.cli import list as list_
from durable.cli.exits import EXIT_CODES, Exit, exit_of
from durable.cli.redact import redacted
from durable.errors import DurableError

__all__ = ["COMMANDS", "Command", "main"]


class Command(NamedTuple):
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    """From the parsed arguments to the exit code; raises DurableError for main to print."""
    aliases: tuple[str, ...] = ()


COMMANDS: Final[dict[str, Command]] = {
    "migrate": Command("bring the tables up to date", migrate.add_arguments, migrate.run),
    "executor": Command("run the tasks of an app", executor.add_arguments, executor.run),
    "list": Command("list executions, newest first", list_.add_arguments, list_.run),
    "show": Command("show an execution and the tree below it", show.add_arguments, show.run),
    "explain": Command("say why an execution does not run, or how it stands", explain.add_arguments, explain.run),
    "history": Command("show what a workflow has done, or export it", history.add_arguments, history.run),
    "replay": Command("run a workflow's history against the code here", replay.add_arguments, replay.run),
    "cancel": Command("end executions and what runs below them", cancel.add_arguments, cancel.run),
    "retry": Command("run failed executions again", retry.add_arguments, retry.run),
    "counts": Command("count unfinished work, and list executors", counts.add_arguments, counts.run, ("status",)),
    "pools": Command("list pools, what waits in them and how their work went", pools.add_arguments, pools.run),
    "doctor": Command("find records that break an invariant, and mend them", doctor.add_arguments, doctor.run),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code. `argv` None means the process's own. SystemExit comes from bad usage."""
    _bear_any_terminal()
    args = _parser().parse_args(argv)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("durable: interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader has gone; without this the interpreter's own flush at exit would complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.BROKEN_PIPE
    except DurableError as error:
        dsn = getattr(args, "dsn", None) or os.environ.get("DURABLE_DSN")
        print(f"durable: {redacted(str(error), dsn)}", file=sys.stderr)
        return exit_of(error)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="durable",
        description="Run and look after durable executions. Every command has its own --help.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"durable {version('durable-postgres')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name,
            aliases=command.aliases,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def _bear_any_terminal() -> None:
    """A character that the terminal cannot show is no reason to fail; nor is a pool's own complaint worth a line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    pool = logging.getLogger("psycopg.pool")
    if not pool.handlers:
        pool.addHandler(logging.NullHandler())
