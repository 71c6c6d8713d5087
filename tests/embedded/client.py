"""A user of the embedded server in a process of its own: executed by the tests, killed by some of them.

It waits for a line on its standard input, starts the server, reports it, and uses it until its standard input ends.
"""

import json
import os
import signal
import sys
from pathlib import Path

import psycopg

from storage_postgres.embedded import EmbeddedServer, start


def main(home: str, mode: str) -> None:
    sys.stdin.readline()
    # Kept in a variable and never released: the end of the process has to be enough.
    server = start(Path(home), durable=mode == "write", timeout=40)
    if mode == "fork":
        child = os.fork()
        if child:
            report(server, child)
            signal.pause()
    elif mode == "write":
        report(server, 0)
        write_for_ever(server)
    else:
        report(server, 0)
    sys.stdin.read()


def report(server: EmbeddedServer, child: int) -> None:
    print(json.dumps({"postmaster": server.pid(), "dsn": server.dsn(), "child": child}), flush=True)


def write_for_ever(server: EmbeddedServer) -> None:
    """Print each number once its commit has been acknowledged."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("create table if not exists written (number bigint primary key)")
        row = connection.execute("select coalesce(max(number), 0) from written").fetchone()
        number = row[0] if row else 0
        while True:
            number += 1
            connection.execute("insert into written values (%s)", [number])
            print(number, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
