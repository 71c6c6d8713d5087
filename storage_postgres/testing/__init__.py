"""What tests on Postgres need: a server, a database and a schema of their own, and a clock that stands still."""

from storage_postgres.testing.clock import move_clock, stop_clock
from storage_postgres.testing.databases import own_database
from storage_postgres.testing.schemas import Schemas
from storage_postgres.testing.servers import DSN_VARIABLE, Server, find_server
from storage_postgres.testing.virtual import LentSchemas, VirtualPostgres, open_virtual_embedded, open_virtual_postgres

__all__ = [
    "DSN_VARIABLE",
    "LentSchemas",
    "Schemas",
    "Server",
    "VirtualPostgres",
    "find_server",
    "move_clock",
    "open_virtual_embedded",
    "open_virtual_postgres",
    "own_database",
    "stop_clock",
]
