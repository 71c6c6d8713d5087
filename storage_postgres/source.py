"""Where the server is: at a DSN of the user's, or embedded and then started, shared and revived from here."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from durable.errors import EmbeddedError
from storage_postgres.embedded import EmbeddedServer, start

__all__ = ["DsnSource", "EmbeddedSource", "Source"]

_log = logging.getLogger("durable.postgres")


class Source(Protocol):
    """A server's address and, where it is ours, its life."""

    def acquire(self) -> str:
        """The DSN of a server that runs. Blocks while it starts. May be called often; one `release` ends the use."""
        ...

    def release(self) -> None: ...

    def revive(self) -> None:
        """Called when the server could not be reached: start it again if it is ours and dead. Never raises."""
        ...


class DsnSource:
    """A server that somebody else looks after."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def acquire(self) -> str:
        return self._dsn

    def release(self) -> None:
        pass

    def revive(self) -> None:
        pass


class EmbeddedSource:
    """The embedded server of a directory; None means ./.durable or what stands for it."""

    def __init__(self, root: Path | None, settings: Mapping[str, str] | None = None) -> None:
        self._root = root
        self._settings = settings
        self._server: EmbeddedServer | None = None
        self._lock = threading.Lock()

    def acquire(self) -> str:
        with self._lock:
            if self._server is None:
                self._server = start(self._root, settings=self._settings)
            return self._server.dsn()

    def release(self) -> None:
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.release()

    def revive(self) -> None:
        with self._lock:
            if self._server is None:
                return
            try:
                self._server.pid()
            except EmbeddedError:
                _log.warning("the embedded Postgres has ended; it is started again")
                self._restart(self._server)

    def _restart(self, dead: EmbeddedServer) -> None:
        try:
            self._server = start(self._root, settings=self._settings)
        except EmbeddedError as error:
            _log.warning("the embedded Postgres could not be started again, tried later: %s", error)
            return
        dead.release()
