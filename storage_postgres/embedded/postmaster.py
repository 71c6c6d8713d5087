"""What a running server says about itself in postmaster.pid, and whether it answers."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

__all__ = ["Postmaster", "find_postmaster"]

PROBE_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Postmaster:
    pid: int
    port: int
    socket_directory: str

    @property
    def socket(self) -> str:
        return f"{self.socket_directory}/.s.PGSQL.{self.port}"

    def dsn(self, dbname: str) -> str:
        # Without hostaddr, PGHOSTADDR in somebody's environment would make libpq connect to that address instead.
        return make_conninfo(host=self.socket_directory, hostaddr="", port=self.port, user="postgres", dbname=dbname)

    def is_ready(self) -> bool:
        """Whether it takes connections: true also when all are in use, false while it starts, recovers or stops."""
        dsn = make_conninfo(self.dsn("postgres"), connect_timeout=PROBE_SECONDS)
        return PGconn.ping(dsn.encode()) == Ping.OK

    def is_listening(self) -> bool:
        """Whether a process accepts connections on its socket, ready or not."""
        probe = socket.socket(socket.AF_UNIX)
        try:
            probe.connect(self.socket)
        except OSError:
            return False
        else:
            return True
        finally:
            probe.close()


def find_postmaster(data: Path) -> Postmaster | None:
    """The server that wrote postmaster.pid last; it may be gone. None when the file is absent or not complete."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        return Postmaster(pid=int(lines[0]), port=int(lines[3]), socket_directory=lines[4])
    except (FileNotFoundError, ValueError, IndexError):
        return None
