"""The operating-system account that Postgres runs as: it refuses to run as root."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from durable.errors import EmbeddedError

if sys.platform != "win32":
    import pwd

__all__ = ["Account", "account_for", "clean_environment"]

UNPRIVILEGED = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    uid: int
    gid: int
    is_switched: bool
    """True when this process is root, so that Postgres runs as somebody else."""

    def run(self, command: Sequence[str | Path], *, keep_fd: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program of Postgres to its end. `keep_fd` stays open in it and in its children.

        Raises OSError when the program cannot be executed by this account.
        """
        return subprocess.run(  # noqa: S603 - the commands are built here, without a shell
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            cwd="/",
            env=clean_environment(),
            pass_fds=() if keep_fd is None else (keep_fd,),
            user=self.uid if self.is_switched else None,
            group=self.gid if self.is_switched else None,
            extra_groups=() if self.is_switched else None,
        )

    def can_use(self, directory: Path) -> bool:
        """Whether Postgres can have its data below `directory`.

        Raises EmbeddedError when root is not allowed to become this account.
        """
        if not self.is_switched:
            return os.access(directory, os.W_OK | os.X_OK)
        try:
            return self.run(["/bin/sh", "-c", 'cd "$1"', "sh", directory]).returncode == 0
        except OSError as error:
            raise EmbeddedError(
                f"root cannot start a process as the user {self.name} ({error.strerror}), "
                "and Postgres does not run as root; run as an ordinary user, or pass a DSN"
            ) from error


def account_for(root: Path) -> Account:
    """This user; for root the owner of the data already in `root`, else the user postgres or nobody.

    Raises EmbeddedError when there is no such account.
    """
    uid = os.geteuid()
    if uid != 0:
        return _account(uid, is_switched=False)
    for data in root.glob("pg[0-9]*"):
        owner = data.stat().st_uid
        if owner != 0:
            return _account(owner, is_switched=True)
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid, is_switched=True)
    raise EmbeddedError(
        f"Postgres does not run as root, and there is no user {' or '.join(UNPRIVILEGED)} to run it as; "
        "run as an ordinary user, or pass a DSN"
    )


def _account(uid: int, *, is_switched: bool) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedError(
            f"the user id {uid} has no name on this machine (no line in /etc/passwd), "
            "and Postgres refuses to run without one; run as a user that has a name, or pass a DSN"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, is_switched)


def clean_environment() -> dict[str, str]:
    """This process's environment without what changes Postgres: PG*, and locales that may not exist here.

    ssh forwards LC_* from machines that have other locales, and initdb fails on a name it does not find.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LC_", "PG")) and name not in {"LANG", "LANGUAGE"}
    }
    return kept | {"LC_ALL": "C"}
