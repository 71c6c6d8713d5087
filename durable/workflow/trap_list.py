"""What a workflow's body should not call, and what to use instead: the list behind its warnings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["ENVIRONMENT", "HASH_OF_TEXT", "RUNS_ITS_ARGUMENT", "SET_ORDER", "UNORDERED_START", "Unless", "entry_of"]

_TIME: Final = "use ctx.now()"
_WAIT: Final = "use await ctx.sleep(…)"
_LIMIT: Final = "use async with ctx.timeout(…)"
_NUMBERS: Final = "use ctx.random"
_ID: Final = "use ctx.uuid()"
_STEP: Final = "call it in a step: await ctx.step(…)"
_READ: Final = "read it in a step, or give it to the workflow as an argument"
_WORK: Final = "start work with ctx.step, ctx.child or asyncio.create_task"
ENVIRONMENT: Final = "which may be another where a replay runs: " + _READ
SET_ORDER: Final = "in an order that is another one in every process: iterate over sorted(…)"
HASH_OF_TEXT: Final = "which is another one for a text in every process: use zlib.crc32 or hashlib"
UNORDERED_START: Final = (
    "which starts what it is given in an order that is another one in every process: give it tasks, made by"
    " asyncio.create_task"
)


class Unless(NamedTuple):
    """A call that is harmless in one form."""

    advice: str
    position: int
    """Of the argument that makes it harmless, from 0."""
    keyword: str
    value: str | None
    """How that argument must be written; None: in any way."""
    is_default: bool = False
    """It is harmless without the argument as well."""


# fmt: off
_GROUPS: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    (_TIME, "datetime", ("date.today", "datetime.now", "datetime.today", "datetime.utcnow")),
    (_TIME, "time", (
        "clock_gettime", "clock_gettime_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns",
        "process_time", "process_time_ns", "thread_time", "thread_time_ns", "time", "time_ns",
    )),
    (_TIME, "asyncio", ("loop.time",)),
    (_WAIT, "asyncio", ("loop.call_at", "loop.call_later")),
    (_WAIT, "time", ("sleep",)),
    (_LIMIT, "asyncio", ("timeout_at",)),
    (_NUMBERS, "os", ("getrandom", "urandom")),
    (_ID, "uuid", ("uuid1", "uuid4", "uuid6", "uuid7")),
    (_STEP, "asyncio", (
        "create_subprocess_exec", "create_subprocess_shell", "loop.run_in_executor", "open_connection",
        "start_server", "to_thread",
    )),
    (_STEP, "builtins", ("input", "open")),
    (_STEP, "getpass", ("getpass",)),
    (_STEP, "io", ("open",)),
    (_STEP, "os", (
        "chdir", "chmod", "kill", "link", "listdir", "makedirs", "mkdir", "open", "path.exists", "path.getmtime",
        "path.getsize", "path.isdir", "path.isfile", "popen", "readlink", "remove", "removedirs", "rename", "renames",
        "replace", "rmdir", "scandir", "stat", "symlink", "system", "truncate", "unlink", "walk",
    )),
    (_READ, "os", ("cpu_count", "getcwd", "getenv", "getpid", "uname")),
    (_READ, "platform", ("node",)),
    (_STEP, "pathlib", tuple(f"Path.{method}" for method in (
        "chmod", "cwd", "exists", "glob", "home", "is_dir", "is_file", "iterdir", "mkdir", "open", "read_bytes",
        "read_text", "rename", "replace", "rglob", "rmdir", "stat", "symlink_to", "touch", "unlink", "write_bytes",
        "write_text",
    ))),
    (_STEP, "aiohttp", ("ClientSession", "request")),
    (_STEP, "http", ("client.HTTPConnection", "client.HTTPSConnection")),
    (_STEP, "httpx", (
        "AsyncClient", "Client", "delete", "get", "head", "options", "patch", "post", "put", "request", "stream",
    )),
    (_STEP, "requests", (
        "Session", "delete", "get", "head", "options", "patch", "post", "put", "request", "session",
    )),
    (_STEP, "urllib3", ("PoolManager", "request")),
    (_STEP, "aiosqlite", ("connect",)),
    (_STEP, "asyncpg", ("connect", "create_pool")),
    (_STEP, "psycopg", ("AsyncConnection.connect", "Connection.connect", "connect")),
    (_STEP, "psycopg2", ("connect",)),
    (_STEP, "psycopg_pool", ("AsyncConnectionPool", "ConnectionPool")),
    (_STEP, "sqlite3", ("connect",)),
    (_WORK, "asyncio", ("run", "run_coroutine_threadsafe")),
    (_WORK, "concurrent", ("futures.ProcessPoolExecutor", "futures.ThreadPoolExecutor")),
)
# fmt: on
_CALLS: Final[Mapping[str, str]] = {f"{top}.{call}": advice for advice, top, calls in _GROUPS for call in calls}
_MODULES: Final[Mapping[str, str]] = {
    "glob": _STEP,
    "multiprocessing": _WORK,
    "random": _NUMBERS,
    "secrets": _NUMBERS,
    "shutil": _STEP,
    "smtplib": _STEP,
    "socket": _STEP,
    "subprocess": _STEP,
    "tempfile": _STEP,
    "threading": _WORK,
    "urllib.request": _STEP,
}
"""Whatever is called in one of these, but what is harmless."""
_HARMLESS: Final = frozenset({"glob.escape", "secrets.compare_digest", "urllib.request.Request"})
_FORMS: Final[Mapping[str, Unless]] = {
    "asyncio.sleep": Unless(_WAIT, 0, "delay", "0"),
    "asyncio.timeout": Unless(_LIMIT, 0, "delay", "None"),
    "asyncio.wait": Unless(_LIMIT, 1, "timeout", "None", is_default=True),
    "asyncio.wait_for": Unless(_LIMIT, 1, "timeout", "None"),
    "random.Random": Unless(_NUMBERS, 0, "x", None),
    "time.asctime": Unless(_TIME, 0, "", None),
    "time.ctime": Unless(_TIME, 0, "", None),
    "time.gmtime": Unless(_TIME, 0, "", None),
    "time.localtime": Unless(_TIME, 0, "", None),
    "time.strftime": Unless(_TIME, 1, "", None),
}
_BUILTINS: Final = ("filter", "map", "max", "min", "sorted")
RUNS_ITS_ARGUMENT: Final = frozenset(
    {*(f"builtins.{name}" for name in _BUILTINS), "collections.defaultdict", "functools.reduce"}
)
"""What calls, then and there, the functions that it is given."""


def entry_of(name: str) -> str | Unless | None:
    """What to use instead of a call, by its dotted name; None: it may be called.

    A module may keep a function in another one than it is called by, as `asyncio.tasks.sleep`.
    """
    parts = name.split(".")
    for kept in (parts, [parts[0], *parts[-2:]], [parts[0], parts[-1]]):
        short = ".".join(kept)
        if short in _HARMLESS:
            return None
        found = _FORMS.get(short) or _CALLS.get(short)
        if found is not None:
            return found
    if parts[-1].endswith(("Error", "Exception")):
        return None
    return next((advice for module, advice in _MODULES.items() if name.startswith(f"{module}.")), None)
