"""Inputs that cannot be meant: each is refused with a typed error that names it, before anything is stored."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from durable import (
    AlreadyRegistered,
    ConfigurationError,
    Durable,
    DurableError,
    InvalidInput,
    Limits,
    PayloadTooLarge,
    Retry,
    SerializationError,
    constant,
    exponential,
    linear,
)

from .place import PATIENCE, Place, running

NAN, INFINITY = float("nan"), float("inf")
LATE = datetime(9999, 1, 1, tzinfo=UTC)


class Colour(Enum):
    RED = "red"


@dataclass
class Line:
    n: int


class Order(BaseModel):
    n: int


class Opaque:
    def __repr__(self) -> str:
        raise RuntimeError("unprintable")


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def circle() -> Any:
    value: list[Any] = []
    value.append({"again": value})
    return value


async def a_coroutine() -> None: ...


def unawaited() -> Any:
    coroutine = a_coroutine()
    coroutine.close()
    return coroutine


PAYLOADS: dict[str, tuple[Callable[[], Any], str]] = {
    "NUL": (lambda: "a\x00b", r"input\.value contains NUL"),
    "NUL below": (lambda: {"a": ["x", "\x00"]}, r"input\.value\.a\[1\] contains NUL"),
    "NUL in a key": (lambda: {"\x00": 1}, "contains NUL"),
    "surrogate": (lambda: "\ud800", "surrogate"),
    "surrogate in a key": (lambda: {"\udfff": 1}, "surrogate"),
    "NaN": (lambda: NAN, r"input\.value"),
    "Infinity below": (lambda: [1.0, [-INFINITY]], r"input\.value\[1\]\[0\]"),
    "set": (lambda: {1}, "set"),
    "bytes": (lambda: b"x", "bytes"),
    "Decimal": (lambda: Decimal(1), "Decimal"),
    "datetime": (lambda: datetime.now(UTC), "datetime"),
    "timedelta": (lambda: timedelta(1), "timedelta"),
    "UUID": (lambda: UUID(int=1), "UUID"),
    "Fraction": (lambda: Fraction(1, 3), "Fraction"),
    "Enum": (lambda: Colour.RED, "Colour"),
    "dataclass": (lambda: Line(1), "Line"),
    "model": (lambda: {"a": Order(n=1)}, r"input\.value\.a is of type Order"),
    "complex": (lambda: 1j, "complex"),
    "unprintable": (Opaque, "Opaque"),
    "key 1": (lambda: {1: "a"}, "key"),
    "key True beside '1'": (lambda: {"1": 0, True: "c"}, "key"),
    "key None": (lambda: {None: 1}, "key"),
    "5,001 digits": (lambda: 10**5000, "digits"),
    "101 deep": (lambda: nested(101), "nested deeper than 100"),
    "200,000 deep": (lambda: nested(200_000), "nested deeper than 100"),
    "circle": (circle, "nested deeper than 100|circular|itself"),
    "coroutine": (unawaited, "coroutine"),
    "function": (lambda: print, "builtin_function"),
    "generator": (lambda: (n for n in ()), "generator"),
    "lock": (threading.Lock, "lock"),
    "a type": (lambda: int, "type"),
}


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_a_payload_that_json_cannot_hold(app: Durable, place: Place, payload: str) -> None:
    make, expected = PAYLOADS[payload]

    @app.task
    async def work(value: Any) -> None: ...

    async with app:
        with pytest.raises(SerializationError, match=expected) as caught:
            await work.enqueue(make())
        assert len(str(caught.value)) < 1000
        with pytest.raises(SerializationError, match=r"^inputs\[1\]"):
            await work.enqueue_many([1, make()])
        with pytest.raises(SerializationError):
            work.child(make())
        with app.client() as client, pytest.raises(SerializationError):
            client.enqueue(work, make())
        assert place.count() == 0
        await work.enqueue("fine")
    assert place.count() == 1


async def test_a_payload_over_the_limit(app: Durable, place: Place) -> None:
    @app.task
    async def work(value: str) -> None: ...

    async with app:
        with pytest.raises(
            PayloadTooLarge, match=r"^input takes 1048577 bytes as JSON, the limit is 1048576"
        ) as caught:
            await work.enqueue("x" * (1024 * 1024 - len('{"value":""}') + 1))
        assert (caught.value.size, caught.value.limit) == (1024 * 1024 + 1, 1024 * 1024)
        assert place.count() == 0
        await work.enqueue("x" * (1024 * 1024 - len('{"value":""}')))
    assert place.count() == 1


CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "missing": ((), {}, "n"),
    "too many": ((1, "a", 3), {}, "takes 2 arguments"),
    "unknown name": ((1,), {"colour": 1}, "no argument named 'colour'"),
    "twice": ((1,), {"n": 1}, "given twice"),
    "text for a number": (("x",), {}, "n"),
    "None for a number": ((None,), {}, "n"),
    "a fraction": ((1.5,), {}, "n"),
    "a secret": (("hunter2",), {}, "n"),
}


@pytest.mark.parametrize("call", CALLS)
async def test_arguments_that_do_not_fit(app: Durable, place: Place, call: str) -> None:
    args, kwargs, expected = CALLS[call]

    @app.task
    async def work(n: int, text: str = "") -> None: ...

    async with app:
        with pytest.raises(InvalidInput, match=expected) as caught:
            await work.enqueue(*args, **kwargs)
        assert caught.value.task == "work"
        assert "hunter2" not in str(caught.value)
    assert place.count() == 0


NAMES = ["", " ", " a", "a\n", "a\x00b", "\x1b[31m", "x" * 201, "_durable_queue", 5, None, b"x", ["x"]]
KEYS = ["", "x" * 513, "a\x00", "\ud800", 5, b"x", ["x"]]
TIMEOUTS = [
    0,
    -1,
    NAN,
    INFINITY,
    timedelta.max,
    timedelta(-1),
    True,
    "5",
    "5 s",
    "x",
    "",
    "-1s",
    "9" * 200 + "s",
    10**400,
    [1],
]
DELAYS = [value for value in TIMEOUTS if value != 0 or value is True] + [None]
COUNTS = [0, -1, 2**63, 1.0, True, "x", None, NAN]
OPTIONS: list[tuple[str, Any]] = [
    *(("idempotency_key", value) for value in KEYS),
    *(("timeout", value) for value in TIMEOUTS),
    *(("delay", value) for value in DELAYS),
    *(("queue", value) for value in NAMES),
    *(("priority", value) for value in (5, -5, 2**31, True, 1.0, "1", None)),
    *(("max_deliveries", value) for value in (*COUNTS, 1001)),
    *(("run_at", value) for value in (datetime(2030, 1, 1), LATE, "2030-01-01", 5, None)),  # noqa: DTZ001
    *(("retry", value) for value in (5, "always", {}, Retry(3, delay=lambda n: n), Retry(3, retry_if=bool))),
    ("no_such_option", 1),
    ("connection", "not a connection"),
]


@pytest.mark.parametrize(("option", "value"), OPTIONS, ids=lambda value: ascii(value)[:30])
async def test_options_that_cannot_be_meant(app: Durable, place: Place, option: str, value: Any) -> None:
    @app.task
    async def work() -> None: ...

    async with app:
        if (option, place.name) == ("connection", "memory"):
            return  # there are no transactions to join in memory
        with pytest.raises(DurableError, match=option.replace("_key", "") if option != "retry" else "retry"):
            await work.enqueue(**{option: value})
        with pytest.raises(DurableError):
            await work.with_options(**{option: value}).enqueue()
        if option not in ("idempotency_key", "connection"):
            with pytest.raises(DurableError):
                work.child(**{option: value})
        assert place.count() == 0
        await work.enqueue()
    assert place.count() == 1


async def test_a_delay_and_a_time_together(app: Durable, place: Place) -> None:
    @app.task
    async def work() -> None: ...

    async with app:
        with pytest.raises(ConfigurationError, match="not both"):
            await work.enqueue(delay=1, run_at=datetime.now(UTC))
    assert place.count() == 0


@pytest.mark.parametrize("sleeping_id", KEYS, ids=lambda value: ascii(value)[:20])
async def test_ids_of_sleeping_tasks(app: Durable, place: Place, sleeping_id: Any) -> None:
    sleep = app.sleeping("sleep", int)
    async with app:
        for refused in (sleep.enqueue(sleeping_id), sleep.wakeup(sleeping_id, 1), sleep.wakeup_failed(sleeping_id, "")):
            with pytest.raises(ConfigurationError, match="sleeping_id"):
                await refused
        with pytest.raises(ConfigurationError, match="sleeping_id"):
            sleep.child(sleeping_id)
    assert place.count() == 0


async def test_ids_of_executions(app: Durable) -> None:
    @app.task
    async def work() -> None: ...

    async with app:
        for wrong in (5, None, b"01900000-0000-7000-8000-000000000000", UUID(int=1)):
            with pytest.raises(TypeError, match="an execution id is a str"):
                work.handle(wrong)  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                await app.cancel(wrong)  # type: ignore[arg-type]
        for unknown in ("", "x", "' or 1=1; --", "0" * 10_000, "\x00"):
            with pytest.raises(DurableError, match="there is no execution"):
                await app.execution(unknown)


async def test_waits_that_cannot_be_meant(app: Durable) -> None:
    @app.task
    async def work() -> None: ...

    async with app:
        handle = await work.enqueue(delay="1h")
        for wrong in (-1, NAN, "soon", True, timedelta(-1)):
            with pytest.raises(ConfigurationError, match="timeout"):
                await handle.result(wrong)
            with pytest.raises(ConfigurationError, match="timeout"):
                await app.wait([handle], timeout=wrong)


# --- definitions and settings: no storage is needed to refuse them ---------------------------------------------


def method(self: Any) -> None: ...


def generator() -> Any:
    yield 1


async def async_generator() -> Any:
    yield 1


DEFINITIONS: dict[str, Any] = {
    "a class": Line,
    "a method": method,
    "a static method": staticmethod(print),
    "a generator": generator,
    "an async generator": async_generator,
    "a lambda": lambda: None,
    "a partial": partial(print),
    "a number": 5,
}


@pytest.mark.parametrize("function", DEFINITIONS.values(), ids=DEFINITIONS)
def test_what_cannot_be_a_task(function: Any) -> None:
    app = Durable("memory:")
    for register in (app.task, app.task(), app.parent(), app.loop(max_iterations=1)):
        with pytest.raises(ConfigurationError):
            register(function)
    assert list(app) == []


@pytest.mark.parametrize("name", NAMES[:-4] + [5, b"x", ["x"]], ids=lambda value: ascii(value)[:20])
def test_names_that_no_task_can_have(name: Any) -> None:
    app = Durable("memory:")
    with pytest.raises(ConfigurationError, match="name"):
        app.task(name=name)(a_coroutine)
    with pytest.raises(ConfigurationError, match="name"):
        app.sleeping(name, int)
    assert list(app) == []


def test_a_name_can_be_taken_once() -> None:
    app = Durable("memory:")
    app.task(name="🙂 of any script, ü")(a_coroutine)
    with pytest.raises(AlreadyRegistered, match="🙂"):
        app.sleeping("🙂 of any script, ü", int)


def test_annotations_that_cannot_be_stored_are_known_at_the_first_call() -> None:
    app = Durable("memory:")

    @app.task
    def work(lock: threading.Lock) -> None: ...

    with pytest.raises(ConfigurationError, match="lock"):
        work.child(threading.Lock())


POLICIES: dict[str, Callable[[], Any]] = {
    **{f"max_attempts {value!r}": partial(Retry, value) for value in (0, -1, 10**9, True, 1.0, "3", None)},
    **{f"delay {value!r}": partial(Retry, 3, value) for value in (-1, NAN, INFINITY, True, "5", timedelta.max, "31d")},
    **{f"jitter {value!r}": partial(Retry, 3, 1, value) for value in (-0.1, 1.1, NAN, True, "x", None)},
    **{f"max_duration {value!r}": partial(Retry, 3, max_duration=value) for value in (-1, NAN, True, "x")},
    "retry_if": partial(Retry, 3, retry_if="always"),
    "factor": partial(exponential, 1, factor=10**6),
    "factor below one": partial(exponential, 1, factor=0.5),
    "cap": partial(exponential, 1, max=-1),
    "step": partial(linear, "x"),
    "constant": partial(constant, None),
}


@pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES)
def test_policies_that_cannot_be_meant(make: Callable[[], Any]) -> None:
    with pytest.raises(ConfigurationError):
        make()


SETTINGS: list[tuple[str, Any]] = [
    *(("concurrency", value) for value in COUNTS),
    *(("threads", value) for value in COUNTS),
    *(("lease", value) for value in (0, 0.4, -1, NAN, INFINITY, True, "15", "2h")),
    *(("poll_interval", value) for value in (0, -1, NAN, True, "x")),
    *(("upkeep_interval", value) for value in (0, -1, NAN, True, "x")),
    *(("grace", value) for value in (-1, NAN, INFINITY, True, "x")),
    *(("keep_waiting", value) for value in (-1, NAN, INFINITY, True, "x", "2d")),
    *(("keep_waiting_mib", value) for value in (0, -1, 0.5, True, "64", 10**7)),
    *(("queues", value) for value in ("default", [], [""], ["a", 5], ["_durable"])),
]


@pytest.mark.parametrize(("setting", "value"), SETTINGS, ids=lambda value: ascii(value)[:20])
async def test_settings_that_no_executor_can_have(app: Durable, setting: str, value: Any) -> None:
    async with app:
        with pytest.raises(ConfigurationError, match=setting.rstrip("s")):
            async with app.executor(**{setting: value}):
                pass


def test_limits_that_cannot_be_meant() -> None:
    for name in ("max_payload_bytes", "max_error_bytes", "warn_payload_bytes", "max_depth"):
        for value in (0, -1, 2**40, True, "x"):
            with pytest.raises(ConfigurationError, match=name):
                Limits(**{name: value})


async def test_parents_children_and_sequences_of_other_apps_are_only_names(place: Place) -> None:
    """A definition that this app does not know cannot be waited for by name, but by its own app it can."""
    app, other = place.app(), place.app()

    @other.task
    async def theirs(n: int) -> int:
        return n

    async with running(app), running(other):
        handle = await theirs.enqueue(1)
        assert await handle.result(PATIENCE) == 1
        with pytest.raises(ConfigurationError, match="no task named 'theirs'"):
            app.handle_of(handle.execution_id, "theirs")


async def test_a_thousand_bad_calls_leave_the_app_working(app: Durable, place: Place) -> None:
    @app.task
    async def work(value: Any) -> Any:
        return value

    async with running(app):
        results = await asyncio.gather(*(work.enqueue("\x00") for _ in range(1000)), return_exceptions=True)
        assert {type(result) for result in results} == {SerializationError}
        assert place.count() == 0
        assert await (await work.enqueue("fine")).result(PATIENCE) == "fine"
