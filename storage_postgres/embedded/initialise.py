"""Make the data directory of a new server, all of it or none of it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path

from durable.errors import EmbeddedError
from storage_postgres.embedded.binaries import OVERRIDE, Binaries
from storage_postgres.embedded.home import Home
from storage_postgres.embedded.locks import Lock

__all__ = ["initialise"]


def initialise(home: Home, binaries: Binaries, starting: Lock, *, is_durable: bool) -> Path:
    """The data directory for this version, made by initdb if it is not there. The caller holds `starting`.

    Raises EmbeddedError when initdb fails, or when the home holds data of another major version.
    """
    data = home.data(binaries.version)
    if (data / "PG_VERSION").exists():
        return data
    _refuse_other_version(home, binaries)
    partial = home.path / "init.tmp"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    home.give(partial)
    _write_password(home)
    _run_initdb(home, binaries, partial, starting, is_durable=is_durable)
    partial.rename(data)
    if is_durable:
        # Without this a power cut could leave the old name, and the next start would take it for a failed attempt.
        _sync_directory(home.path)
        with contextlib.suppress(PermissionError):  # it may be closed to readers
            _sync_directory(home.path.parent)
    return data


def _refuse_other_version(home: Home, binaries: Binaries) -> None:
    for other in sorted(home.path.glob("pg[0-9]*")):
        version = other.name.removeprefix("pg")
        raise EmbeddedError(
            f"{other} holds data of Postgres {version}, and {binaries.directory} is Postgres {binaries.version}; "
            f"set {OVERRIDE} to a Postgres {version} (with it, pg_dump moves the data), or choose another directory"
        )


def _write_password(home: Home) -> None:
    home.password.unlink(missing_ok=True)
    fd = os.open(home.password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(secrets.token_hex(16))
    home.give(home.password)


def _run_initdb(home: Home, binaries: Binaries, partial: Path, starting: Lock, *, is_durable: bool) -> None:
    # The builtin provider sorts alike on every machine, whatever its C library does; before 17 only C does.
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if binaries.version >= 17 else []
    command: list[str | Path] = [
        binaries.initdb,
        *("-D", str(partial), "-U", "postgres", "-E", "UTF8", "--locale=C", *locale),
        *("--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={home.password}"),
        *([] if is_durable else ["--no-sync"]),
    ]
    # initdb outlives a client that is killed; it keeps the start lock, so the next client waits for it to end.
    done = home.account.run(command, keep_fd=starting.fd)
    if done.returncode != 0:
        raise EmbeddedError(f"initdb failed in {home.path}; correct this, or pass a DSN:\n{done.stderr.strip()}")


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
