"""A real Postgres for development and tests, run from installed binaries and shared by all processes of this user.

    with start() as server:
        psycopg.connect(server.dsn())

The server runs while at least one process uses it, however that process ends, and stops soon after the last one.
"""

from storage_postgres.embedded.server import EmbeddedServer, start

__all__ = ["EmbeddedServer", "start"]
