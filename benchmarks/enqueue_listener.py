"""Hears the hints of a schema and does nothing with them; prints a line when it listens."""

from __future__ import annotations

import os
import sys

import psycopg
from psycopg import sql

from storage_postgres.listen import channel_of


def main(schema: str) -> None:
    with psycopg.connect(os.environ["DURABLE_DSN"], autocommit=True) as connection:
        connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel_of(schema))))
        print("listening", flush=True)
        for _ in connection.notifies():
            pass


if __name__ == "__main__":
    main(sys.argv[1])
