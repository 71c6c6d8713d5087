"""The directory of one embedded server: where it is, who may use it, and the names inside it."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from durable.errors import EmbeddedError
from storage_postgres.embedded.account import Account, account_for

__all__ = ["Home", "open_home"]

logger = logging.getLogger("durable.embedded")

MACHINE_STATE = Path("/var/lib")
SHARED_STATE = Path("/var/tmp")  # noqa: S108 - others can write there, so _check_owner looks at what is found


@dataclass(frozen=True, slots=True)
class Home:
    """A directory that exists and that Postgres can reach as `account`.

    When root uses it, only the data, the password and the sockets belong to the account. The lock files and the log
    stay root's, in a directory that the account cannot write to: a database user who may run programs cannot swap them.
    """

    path: Path
    account: Account

    @property
    def start_lock(self) -> Path:
        """Held exclusively while a process makes, starts or joins the server."""
        return self.path / "start.lock"

    @property
    def clients_lock(self) -> Path:
        """Held shared by every process that uses the server, exclusively by the watcher once nobody does."""
        return self.path / "clients.lock"

    @property
    def run_lock(self) -> Path:
        """Held exclusively by all processes of the server together, through one inherited descriptor."""
        return self.path / "run.lock"

    @property
    def watch_lock(self) -> Path:
        """Held exclusively by the watcher."""
        return self.path / "watch.lock"

    @property
    def log(self) -> Path:
        return self.path / "server.log"

    @property
    def password(self) -> Path:
        """The superuser's password, asked for on TCP only."""
        return self.path / "password"

    def data(self, version: int) -> Path:
        return self.path / f"pg{version}"

    def give(self, path: Path) -> None:
        """Make `path` the account's, if root made it."""
        if self.account.is_switched:
            os.chown(path, self.account.uid, self.account.gid)


def open_home(root: Path | None) -> Home:
    """Make `root` if needed. None means ./.durable, or a directory that stands for it where that one cannot be used.

    Raises EmbeddedError with the reason when no directory can be used.
    """
    if root is not None:
        return _open(root.expanduser().resolve(), is_chosen=True)
    refusals: list[str] = []
    for path in _default_paths():
        try:
            home = _open(path, is_chosen=False)
        except EmbeddedError as refusal:
            refusals.append(str(refusal))
            continue
        if refusals:
            logger.warning("the embedded Postgres keeps its data in %s, because %s", path, refusals[0])
        return home
    raise EmbeddedError("no directory for the embedded Postgres: " + "; ".join(refusals))


def _default_paths() -> Iterator[Path]:
    """./.durable, then directories named after the working directory, so that each checkout finds its own again."""
    here = Path.cwd()
    digest = hashlib.sha256(os.fsencode(here)).hexdigest()[:12]
    yield here / ".durable"
    if os.geteuid() == 0:
        yield MACHINE_STATE / f"durable-{digest}"
    else:
        # Before /var/tmp: cleaners delete there what nobody touched for a month, and parts of a database are like that.
        state = os.environ.get("XDG_STATE_HOME", "")
        base = Path(state) if state.startswith("/") else Path(os.environ.get("HOME") or "/") / ".local" / "state"
        yield base / "durable" / digest
    yield SHARED_STATE / f"durable-{os.geteuid()}-{digest}"


def _open(path: Path, *, is_chosen: bool) -> Home:
    account = None
    is_new = False
    try:
        is_new = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        account = account_for(path)
        if is_new:
            os.chown(path, -1, account.gid if account.is_switched else -1)
            path.chmod(0o710 if account.is_switched else 0o700)
        _check_owner(path, account, is_chosen=is_chosen)
        _check_reach(path, account)
    except OSError as error:
        raise EmbeddedError(
            f"the directory {path} cannot be made or read ({error.strerror}); choose another directory, or pass a DSN"
        ) from error
    except EmbeddedError:
        if is_new:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise
    return Home(path.resolve(), account)


def _check_owner(path: Path, account: Account, *, is_chosen: bool) -> None:
    uid = os.geteuid()
    # A chosen directory may be a mounted volume that root owns and this user may write to; a default one may not.
    is_foreign = path.stat().st_uid != uid and (uid == 0 or not is_chosen)
    is_planted = path.is_symlink() and path.lstat().st_uid not in {0, uid}
    has_foreign_data = any(data.stat().st_uid != account.uid for data in path.glob("pg[0-9]*"))
    if is_foreign or is_planted or has_foreign_data:
        raise EmbeddedError(
            f"the directory {path} belongs to another user; run as that user, choose another directory, or pass a DSN"
        )


def _check_reach(path: Path, account: Account) -> None:
    if account.can_use(path):
        return
    if account.is_switched:
        raise EmbeddedError(
            f"the directory {path} cannot be reached by the user {account.name}, whom Postgres runs as because "
            "it refuses root (/root and private temporary directories are closed to others); "
            "choose a directory such as /var/lib/durable, run as an ordinary user, or pass a DSN"
        )
    raise EmbeddedError(f"the directory {path} is not writable for this user; choose another directory, or pass a DSN")
