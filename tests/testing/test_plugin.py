"""The pytest plugin as a user has it: its fixtures, with and without pytest-asyncio, and at no cost to other tests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Final

import psycopg
import pytest

from storage_postgres.testing import DSN_VARIABLE, Server
from tests.support.sources import ROOT

pytest_plugins = ["pytester"]

SHOP: Final = """
    from durable import Durable

    app = Durable("postgresql://nobody@nowhere.invalid/nothing")
    sent = []

    @app.task
    async def send_mail(to: str) -> None:
        sent.append(to)
"""
WITH_ASYNCIO: Final = """
    import pytest
    import pytest_asyncio
    import shop
    from durable.testing import app_under_test

    @pytest_asyncio.fixture(params=["durable_memory", "durable_postgres"])
    async def kit(request):
        async with app_under_test(shop.app, storage=request.getfixturevalue(request.param)) as kit:
            yield kit

    @pytest.mark.parametrize("run", [1, 2])
    async def test_reminder(kit, run):
        assert kit.enqueued() == []
        await shop.send_mail.enqueue("a@b.c", delay="3d")
        await kit.clock.advance("2d")
        assert shop.sent == []
        await kit.clock.advance("1d")
        assert shop.sent == ["a@b.c"]
        shop.sent.clear()
        kit.assert_enqueued(shop.send_mail, to="a@b.c")
"""
WITHOUT_ASYNCIO: Final = """
    import asyncio
    import shop
    from durable.testing import app_under_test

    def check(storage):
        async def main():
            async with app_under_test(shop.app, storage=storage) as kit:
                await shop.send_mail.enqueue("a@b.c", delay="3d")
                await kit.clock.advance("3d")
                return kit.enqueued(shop.send_mail, "a@b.c")[0].status
        assert asyncio.run(main()) == "completed"

    def test_memory(durable_memory):
        check(durable_memory)

    def test_postgres(durable_postgres):
        check(durable_postgres)
"""
FAILS: Final = """
    import shop
    from durable.testing import app_under_test

    async def test_it(durable_memory):
        async with app_under_test(shop.app, storage=durable_memory) as kit:
            await shop.send_mail.enqueue("a@b.c")
            kit.assert_enqueued(shop.send_mail, to="x@y.z")
"""
NAMES_ITS_DATABASE: Final = """
    from pathlib import Path
    from psycopg.conninfo import conninfo_to_dict

    def test_it(durable_postgres_dsn):
        Path("name.txt").write_text(conninfo_to_dict(durable_postgres_dsn)["dbname"])
"""
ASYNCIO: Final = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")


@pytest.fixture
def project(pytester: pytest.Pytester, postgres_server: Server, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project of a user's, whose tests find the server that these tests found."""
    monkeypatch.setenv(DSN_VARIABLE, postgres_server.maintenance_dsn)
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    pytester.makepyfile(shop=SHOP)
    return pytester


def test_fixtures_of_both_storages_serve_asynchronous_tests_each_with_a_store_of_its_own(
    project: pytest.Pytester,
) -> None:
    project.makepyfile(WITH_ASYNCIO)
    project.runpytest_subprocess("-W", "error", *ASYNCIO).assert_outcomes(passed=4)


def test_fixtures_serve_without_pytest_asyncio_and_in_workers_side_by_side(project: pytest.Pytester) -> None:
    project.makepyfile(WITHOUT_ASYNCIO)
    project.runpytest_subprocess("-W", "error", "-p", "no:asyncio", "-n", "2").assert_outcomes(passed=2)


def test_what_the_documentation_shows_passes(project: pytest.Pytester) -> None:
    text = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    orders, test_orders = blocks[:2]
    on_postgres = next(block for block in blocks if "durable_postgres" in block)
    (project.path / "orders.py").write_text(orders, encoding="utf-8")
    (project.path / "test_orders.py").write_text(test_orders + on_postgres, encoding="utf-8")
    project.runpytest_subprocess("-W", "error", *ASYNCIO).assert_outcomes(passed=2)


def test_a_failing_assertion_is_shown_where_the_test_made_it(project: pytest.Pytester) -> None:
    project.makepyfile(FAILS)
    result = project.runpytest_subprocess(*ASYNCIO)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">*kit.assert_enqueued(shop.send_mail, to=*",
            "E*AssertionError: send_mail(to='x@y.z') was not enqueued; there are:",
            "E*- send_mail(to='a@b.c'): *",
            "E*to='a@b.c', not 'x@y.z'",
        ]
    )
    result.stdout.no_fnmatch_line("*enqueued.py:*")


def test_the_database_of_a_run_goes_with_it(project: pytest.Pytester, postgres_server: Server) -> None:
    project.makepyfile(NAMES_ITS_DATABASE)
    project.runpytest_subprocess("-p", "no:asyncio").assert_outcomes(passed=1)
    name = (project.path / "name.txt").read_text(encoding="utf-8")

    with psycopg.connect(postgres_server.maintenance_dsn, autocommit=True) as connection:
        found = connection.execute("select 1 from pg_catalog.pg_database where datname = %s", [name]).fetchall()

    assert name.startswith("durable_test_")
    assert found == []


def test_loading_the_plugin_loads_nothing_that_it_may_not_need() -> None:
    code = "import json, sys, pytest_durable; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(subprocess.check_output([sys.executable, "-c", code], text=True)))
    assert "pytest_durable" in loaded
    assert loaded & {"durable", "storage_postgres", "psycopg", "pydantic", "testcontainers", "asyncio"} == set()
