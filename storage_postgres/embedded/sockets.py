"""The directory of the server's Unix socket: a short path, because the kernel takes about 100 bytes and no more."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from durable.errors import EmbeddedError
from storage_postgres.embedded.home import Home

__all__ = ["make_socket_directory"]

SHORT_BASE = Path("/tmp")  # noqa: S108 - the name below it cannot be guessed, and its owner is checked
LONGEST_BASE = 60
"""Bytes. macOS takes 103 for the whole path; the rest is the directory's name and the socket's."""


def make_socket_directory(home: Home) -> Path:
    """Make the directory that belongs to this home, the same at every start: open pools find a restarted server.

    Its name depends on the password too: a home that was deleted and made anew must not share it with the server that
    may still run on the deleted files, because that one removes its socket when it ends.
    """
    secret = home.password.read_bytes()
    digest = hashlib.sha256(os.fsencode(home.path) + b"\0" + secret).hexdigest()[:12]
    directory = _base(home) / f"durable-{os.geteuid()}-{digest}"
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    is_ours = found.st_uid in {os.geteuid(), home.account.uid} and not found.st_mode & 0o077
    if not stat.S_ISDIR(found.st_mode) or not is_ours:
        raise EmbeddedError(f"{directory} was made by somebody else; remove it, or pass a DSN")
    home.give(directory)
    return directory


def _base(home: Home) -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    is_short = runtime.startswith("/") and len(os.fsencode(runtime)) <= LONGEST_BASE
    # Postgres splits the setting at commas and reads quotes in it.
    is_plain = not set(runtime) & set(",\"' \\")
    # Root's own is closed to the account that root switches to.
    is_open = not home.account.is_switched and os.access(runtime, os.W_OK | os.X_OK)
    return Path(runtime) if is_short and is_plain and is_open else SHORT_BASE
