"""What a started server is like: its address, its settings, and who may not join it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest

from durable.errors import EmbeddedError
from storage_postgres.embedded import EmbeddedServer, start
from storage_postgres.embedded.account import account_for, clean_environment
from storage_postgres.embedded.binaries import choose_binaries, locate_binaries
from storage_postgres.embedded.locks import Lock
from storage_postgres.embedded.postmaster import find_postmaster

from .support import execute, is_alive, is_gone, query, wait_until


def test_the_durable_mode_keeps_every_safeguard(new_home: Path) -> None:
    with start(new_home) as server:
        for safeguard in ("fsync", "full_page_writes", "synchronous_commit"):
            assert query(server.dsn(), f"show {safeguard}") == "on"
        assert query(server.dsn(), "show max_connections") == "200"
        assert query(server.dsn(), "show listen_addresses") == ""


def test_the_test_mode_turns_them_off(home: Path) -> None:
    with start(home, durable=False) as server:
        for safeguard in ("fsync", "full_page_writes", "synchronous_commit"):
            assert query(server.dsn(), f"show {safeguard}") == "off"


def test_a_durable_user_refuses_a_server_without_safeguards(home: Path) -> None:
    with start(home, durable=False):
        with pytest.raises(EmbeddedError, match=r"runs without fsync.*durable=False.*choose another directory"):
            start(home)
        start(home, durable=False).release()


def test_a_test_user_joins_a_durable_server(home: Path) -> None:
    with start(home) as durable, start(home, durable=False) as other:
        assert other.pid() == durable.pid()


def test_settings_win_over_the_defaults(home: Path) -> None:
    with start(home, durable=False, settings={"max_connections": "7", "application_name": "it's a 'test'"}) as server:
        assert query(server.dsn(), "show max_connections") == "7"
        assert query(f"{server.dsn()} application_name=''", "show application_name") == "it's a 'test'"


def test_statistics_of_statements_are_there_if_the_programs_carry_them(home: Path) -> None:
    binaries = choose_binaries(locate_binaries(), account_for(home))
    with start(home, durable=False) as server:
        is_loaded = query(server.dsn(), "show shared_preload_libraries") == "pg_stat_statements"
        assert is_loaded == binaries.carries("pg_stat_statements")


def test_text_is_utf8_and_sorted_alike_on_every_machine(home: Path) -> None:
    with start(home, durable=False) as server:
        assert query(server.dsn(), "show server_encoding") == "UTF8"
        assert (
            query(server.dsn(), "select string_agg(word, '' order by word) from unnest('{a,B,ä}'::text[]) word")
            == "Baä"
        )


def test_the_dsn_names_everything(home: Path) -> None:
    with start(home, durable=False) as server:
        names = [part.split("=")[0] for part in server.dsn().split()]
        assert {"host", "port", "user", "dbname"} <= set(names)
        execute(server.dsn(), "create database other")
        assert query(server.dsn("other"), "select current_database()") == "other"


async def test_an_asynchronous_connection_takes_the_dsn(home: Path) -> None:
    with start(home, durable=False) as server:
        async with await psycopg.AsyncConnection.connect(server.dsn()) as connection:
            cursor = await connection.execute("select 1")
            assert await cursor.fetchone() == (1,)


def test_four_threads_that_start_it_at_once_get_one_server(home: Path) -> None:
    barrier = threading.Barrier(4)
    servers: list[EmbeddedServer] = []

    def start_one() -> None:
        barrier.wait()
        servers.append(start(home, durable=False))

    threads = [threading.Thread(target=start_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(servers) == 4
    assert len({server.pid() for server in servers}) == 1
    for server in servers:
        server.release()
    wait_until(lambda: is_gone(home))


def test_tcp_asks_for_the_password(home: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with start(home, durable=False, settings={"listen_addresses": "127.0.0.1", "port": port}) as server:
        assert query(server.dsn(), "show port") == port
        over_tcp = f"host=127.0.0.1 port={port} user=postgres dbname=postgres"
        with pytest.raises(psycopg.OperationalError, match="password"):
            query(f"{over_tcp} passfile=/nonexistent", "select 1")
        assert query(f"{over_tcp} password={(home / 'password').read_text()}", "select 1") == 1


def test_a_server_whose_connections_are_all_taken_can_be_joined(home: Path) -> None:
    few = {"max_connections": "4", "superuser_reserved_connections": "0"}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(start(home, durable=False, settings=few))
        for _ in range(4):
            stack.enter_context(psycopg.connect(server.dsn()))
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            psycopg.connect(server.dsn())
        start(home, durable=False, timeout=5).release()


def test_a_bad_setting_is_reported_and_does_no_harm(home: Path) -> None:
    with pytest.raises(EmbeddedError, match='invalid value for parameter "shared_buffers"'):
        start(home, durable=False, settings={"shared_buffers": "nonsense"})
    with start(home, durable=False) as server:
        assert query(server.dsn(), "select 1") == 1


def test_waiting_for_other_processes_has_a_limit(home: Path) -> None:
    starting = Lock(home / "start.lock")
    assert starting.try_exclusive()
    with pytest.raises(EmbeddedError, match=r"within 0.1 s; try again with a larger timeout"):
        start(home, timeout=0.1)
    starting.close()


def test_a_server_started_by_other_means_is_refused(home: Path) -> None:
    with start(home, durable=False) as server:
        socket_directory = server.dsn().split()[0].removeprefix("host=")
    wait_until(lambda: is_gone(home))
    account = account_for(home)
    binaries = choose_binaries(locate_binaries(), account)
    data = home / f"pg{binaries.version}"
    Path(socket_directory).mkdir()
    Path(socket_directory).chmod(0o777)
    owner = {"user": account.uid, "group": account.gid, "extra_groups": ()} if account.is_switched else {}
    command = [binaries.postgres, "-D", data, "-k", socket_directory, "-h", ""]
    with subprocess.Popen(  # type: ignore[call-overload]
        command, cwd="/", env=clean_environment(), stderr=subprocess.DEVNULL, **owner
    ) as unknown:
        try:
            wait_until(lambda: (running := find_postmaster(data)) and running.is_ready())
            with pytest.raises(EmbeddedError, match=f"process {unknown.pid} serves .* was not started from here"):
                start(home, durable=False)
            assert is_alive(unknown.pid)
        finally:
            unknown.terminate()
    shutil.rmtree(socket_directory)


def test_a_directory_that_was_deleted_and_made_anew_is_another_server(own_home: Path) -> None:
    old = start(own_home, durable=False)
    old_pid = old.pid()
    shutil.rmtree(own_home)
    with start(own_home, durable=False) as new:
        assert new.dsn() != old.dsn()
        old.release()
        wait_until(lambda: not is_alive(old_pid))
        assert query(new.dsn(), "select 1") == 1


def test_a_python_that_cannot_run_the_watcher_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python3")
    with pytest.raises(EmbeddedError, match="/nonexistent/python3 cannot watch"):
        start(home, durable=False)


def test_windows_is_told_to_pass_a_dsn(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(EmbeddedError, match="Windows; pass a DSN"):
        start(home)
