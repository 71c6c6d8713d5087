"""Continuous: what cannot be meant is refused with an error that names it, and nothing is stored."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable import AlreadyRegistered, ConfigurationError, Durable, InvalidInput, NotOpen, Registry, Retry, every
from durable.jobs import Continuous, ContinuousContext, JobNotFound, JobValidationError, ShownStatus
from durable.testing import Kit, VirtualStorage, app_under_test

KEYS = ["", "x" * 513, "a\x00b", "\ud800", 5, None, b"k", ["k"]]
CALLS = ["start", "trigger", "terminate", "pause", "resume", "redrive", "status", "state"]
TIMEOUTS = [-1, "x", True, float("nan"), datetime(2030, 1, 1, tzinfo=UTC), []]


def declared(app: Registry, **options: Any) -> Continuous[Any]:
    @app.continuous(**{"state": dict[str, int], "schedule": every("1h"), **options})
    async def job(ctx: ContinuousContext[Any]) -> None: ...

    return job


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"schedule": value}, "schedule must be") for value in (5, "1h", None, every, timedelta(1))),
        *(({"name": value}, "name") for value in ("", " a ", "x" * 201, 5, "_durable_x", "a\nb")),
        *(({"start_immediately": value}, "start_immediately is") for value in ("no", None, 1)),
        *(({"retry": value}, "retry must be") for value in (3, "3", Retry)),
        *(({"timeout": value}, "timeout is") for value in (0, -1, "x", True, datetime(2030, 1, 1, tzinfo=UTC))),
        *(({"queue": value}, "queue") for value in ("", 5)),
        *(({"priority": value}, "priority is") for value in (99, "high", True)),
        *(({"max_deliveries": value}, "max_deliveries is") for value in (0, 1.5)),
        *(({"on_exhausted": value}, "on_exhausted is") for value in ("keep", None, [])),
        *(({"state_version": value}, "state_version is") for value in (0, "1", True)),
        *(({value: 1}, f"unknown option '{value}'") for value in ("delay", "wait", "version", "statee")),
    ],
    ids=lambda value: value if isinstance(value, str) else ascii(next(iter(value))),
)
def test_an_option_that_cannot_be_meant(app: Durable, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        declared(app, **options)
    assert list(app) == []


async def takes_nothing() -> None: ...
async def takes_two(ctx: Any, more: Any) -> None: ...
async def streams(ctx: Any) -> AsyncIterator[int]:
    yield 1


def generates(ctx: Any) -> Any:
    yield 1


@pytest.mark.parametrize(
    "function",
    [5, None, "job", int, takes_nothing, takes_two, streams, generates],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_is_no_handler(app: Durable, function: Any) -> None:
    with pytest.raises(ConfigurationError):
        app.continuous(state=int, schedule=every("1h"), name="job")(function)
    assert list(app) == []


def test_a_handler_without_a_name_needs_one(app: Durable) -> None:
    handler: Any = functools.partial(takes_two, more=1)
    with pytest.raises(ConfigurationError, match="name"):
        app.continuous(state=int, schedule=every("1h"))(handler)
    assert app.continuous(state=int, schedule=every("1h"), name="job")(handler).name == "job"


def test_a_name_is_taken_once_for_each_kind(app: Durable) -> None:
    declared(app)
    with pytest.raises(AlreadyRegistered, match="continuous:job"):
        declared(app)
    app.task_job("job", state=int, event=int)
    with pytest.raises(JobNotFound, match="no debounce job named 'job'"):
        app.jobs.get("debounce", "job")
    assert app.jobs.get("continuous", "job").name == "job"


@pytest.mark.parametrize("state", [5, "Nope", type("Opaque", (), {})], ids=["value", "text", "class"])
async def test_a_type_of_state_that_cannot_be_stored(app: Durable, storage: VirtualStorage, state: Any) -> None:
    job = declared(app, state=state)
    async with app_under_test(app, storage=storage):
        with pytest.raises(ConfigurationError, match="state of continuous 'job'"):
            await job.start("k", {})
        assert await app.jobs.count() == 0


async def assert_refused(kit: Kit, call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        await call()
    assert await kit.app.jobs.count() == 0


@pytest.mark.parametrize("call", CALLS)
async def test_a_key_that_cannot_be_stored(app: Durable, storage: VirtualStorage, call: str) -> None:
    job = declared(app)
    arguments = ({},) if call == "start" else ()
    async with app_under_test(app, storage=storage) as kit:
        for key in KEYS:
            await assert_refused(kit, lambda key=key: getattr(job, call)(key, *arguments), ConfigurationError, "key")


async def test_a_key_may_hold_anything_else(app: Durable, storage: VirtualStorage) -> None:
    job = declared(app)
    keys = ["x" * 512, "a:b", " ", "é" * 512, "%_\\", "\n"]
    async with app_under_test(app, storage=storage):
        for key in keys:
            assert (await job.start(key, {})).created
            assert (await job.status(key)).status == ShownStatus.RUNNING
        found: list[str] = []
        after = None
        while page := await app.jobs.list(limit=2, after=after):
            found += [line.key for line in page]
            after = page[-1].instance_id
        assert sorted(found) == sorted(keys)
        assert [line.key for line in await app.jobs.list(key_prefix="%")] == ["%_\\"]


@pytest.mark.parametrize(
    "state", [None, 5, {"a": "x"}, {"a": 1.5}, {1: 1}, [], {"\x00": 1}, {"a" * 2_000_000: 1}, object()],
    ids=lambda state: repr(state)[:20],
)  # fmt: skip
async def test_a_state_that_does_not_fit(app: Durable, storage: VirtualStorage, state: Any) -> None:
    job = declared(app)
    async with app_under_test(app, storage=storage) as kit:
        await assert_refused(kit, lambda: job.start("k", state), JobValidationError, "^job continuous:job:k: state")
        with app.client() as client, pytest.raises(InvalidInput):
            client.job(job).start("k", state)
        assert await app.jobs.count() == 0


async def test_a_limit_of_time_that_is_none(app: Durable, storage: VirtualStorage) -> None:
    job = declared(app)
    async with app_under_test(app, storage=storage) as kit:
        for limit in TIMEOUTS:
            for wait in (True, False):
                await assert_refused(
                    kit,
                    lambda limit=limit, wait=wait: job.start("k", {}, wait=wait, timeout=limit),
                    ConfigurationError,
                    "timeout is",
                )
        await job.start("k", {}, wait=True)
        for limit in TIMEOUTS:
            with pytest.raises(ConfigurationError, match="timeout is"):
                await job.trigger("k", timeout=limit)
        await kit.drain()
        assert (await job.status("k")).run_count == 1


async def test_a_wait_inside_a_transaction_of_the_callers(app: Durable, storage: VirtualStorage) -> None:
    job = declared(app)
    connection = object()
    async with app_under_test(app, storage=storage) as kit:
        await assert_refused(
            kit, lambda: job.start("k", {}, wait=True, connection=connection), ConfigurationError, "exclude each other"
        )
        with pytest.raises(ConfigurationError, match="exclude each other"):
            await job.trigger("k", wait=True, connection=connection)
        with app.client() as client:
            calls = client.job(job)
            with pytest.raises(ConfigurationError, match="exclude each other"):
                calls.start("k", {}, wait=True, connection=connection)
            with pytest.raises(ConfigurationError, match="exclude each other"):
                calls.trigger("k", wait=True, connection=connection)


@pytest.mark.parametrize("reason", ["", "x" * 513, 5, "\x00", b"x"])
async def test_a_reason_that_cannot_be_stored(app: Durable, storage: VirtualStorage, reason: Any) -> None:
    job = declared(app)
    async with app_under_test(app, storage=storage):
        await job.start("k", {})
        with pytest.raises(ConfigurationError, match="reason"):
            await job.terminate("k", reason=reason)
        assert (await job.status("k")).status == ShownStatus.RUNNING


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"kind": "cron"}, "kind is"),
        ({"status": "not_found"}, "status is"),
        ({"limit": 0}, "limit is"),
        ({"limit": True}, "limit is"),
        ({"after": "x"}, "after is"),
        ({"after": 5}, "after is"),
        ({"after": "continuous:job"}, "after is"),
        ({"after": "continuous:job:\x00"}, "after contains NUL"),
        ({"name": 5}, "name is a int"),
        ({"key_prefix": 5}, "key_prefix is a int"),
        ({"key_prefix": "a\x00"}, "key_prefix contains NUL"),
    ],
)
async def test_a_list_of_what_there_is_not(
    app: Durable, storage: VirtualStorage, where: dict[str, Any], message: str
) -> None:
    declared(app)
    async with app_under_test(app, storage=storage):
        with pytest.raises(ConfigurationError, match=message):
            await app.jobs.list(**where)


async def test_what_is_not_open_and_what_no_app_includes(app: Durable, storage: VirtualStorage) -> None:
    job = declared(app)
    lone = declared(Registry())
    with pytest.raises(NotOpen):
        await job.start("k", {})
    with pytest.raises(NotOpen, match="no app includes"):
        await lone.start("k", {})
    async with app_under_test(app, storage=storage):
        assert (await job.status("k")).status == ShownStatus.NOT_FOUND
        with app.client() as client:
            for what in (5, None, "job", Continuous):
                wrong: Any = what
                with pytest.raises(ConfigurationError, match="give a declared job"):
                    client.job(wrong)
