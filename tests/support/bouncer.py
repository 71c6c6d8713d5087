"""A pgbouncer in transaction mode in front of the test server, on a loopback port."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

__all__ = ["MARKER", "bouncing", "pytest_collection_modifyitems", "pytest_configure"]

MARKER: Final = "pgbouncer"
WITHOUT: Final = "DURABLE_TEST_WITHOUT_PGBOUNCER"
MISSING: Final = (
    "pgbouncer is not installed, so nothing shows that the library works behind it. Install it (Debian and Ubuntu: "
    f"apt-get install pgbouncer; macOS: brew install pgbouncer), or leave these tests out with {WITHOUT}=1"
)

_CONFIGURATION: Final = """
[databases]
* = {server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
server_login_retry = 1
log_connections = 0
log_disconnections = 0
log_stats = 0
"""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{MARKER}: needs pgbouncer; {WITHOUT}=1 leaves it out")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get(WITHOUT) != "1":
        return
    left_out = [item for item in items if item.get_closest_marker(MARKER)]
    items[:] = [item for item in items if not item.get_closest_marker(MARKER)]
    config.hook.pytest_deselected(items=left_out)


@contextmanager
def bouncing(dsn: str, *, pool_size: int) -> Iterator[str]:
    """The DSN of the same database through a pgbouncer of `pool_size` server connections."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")
    if program is None:
        pytest.fail(MISSING)
    server, port, account = _server(dsn), _free_port(), _account()
    with tempfile.TemporaryDirectory(prefix="durable-pgbouncer-") as directory:
        configuration = Path(directory) / "pgbouncer.ini"
        configuration.write_text(
            _CONFIGURATION.format(server=make_conninfo(**server), port=port, pool_size=pool_size), encoding="utf-8"
        )
        if account is not None:
            os.chown(directory, account.pw_uid, account.pw_gid)
            os.chown(configuration, account.pw_uid, account.pw_gid)
        process = subprocess.Popen(
            [program, str(configuration)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            user=None if account is None else account.pw_uid,
            group=None if account is None else account.pw_gid,
            extra_groups=None if account is None else [],
        )
        try:
            _wait_until_up(process)
            yield make_conninfo(
                "", host="127.0.0.1", port=port, dbname=conninfo_to_dict(dsn)["dbname"], user=server["user"]
            )
        finally:
            process.terminate()
            process.communicate(timeout=30)


def _wait_until_up(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if "process up" in line:
            return
    pytest.fail("pgbouncer did not start:\n" + "".join(lines))


def _server(dsn: str) -> dict[str, str]:
    """Where the server is and who logs in, as libpq itself finds them; pgbouncer reads no environment."""
    with psycopg.connect(dsn) as connection:
        info = connection.info
        found = {"host": info.host, "port": str(info.port), "user": info.user, "password": info.password}
    return {name: value for name, value in found.items() if value}


def _account() -> pwd.struct_passwd | None:
    """For root another account, because pgbouncer refuses root; None is this user."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.fail("pgbouncer does not run as root, and there is no user postgres or nobody; run tests as another user")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
