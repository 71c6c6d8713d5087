"""A real Postgres server for development and tests, started from installed binaries and shared by every process of this user.

    with start() as server:
        psycopg.connect(server.dsn())

The server runs while at least one process uses it, however that process ends, and stops soon after the last one.
"""

from storage_postgres.embedded.server import EmbeddedServer, start

__all__ = ["EmbeddedServer", "start"]
