"""`log_level`: what is logged of executions is what their definition asks for, whatever the others ask for."""

import logging
from typing import Any

import pytest

from durable import Durable, Retry
from durable.errors import ConfigurationError
from durable.jobs import ContinuousContext, JobExecutionError, every

from .place import PATIENCE, running

LEVELS = {
    "debug": ["DEBUG", "INFO", "DEBUG", "DEBUG", "ERROR", "DEBUG"],
    "info": ["INFO", "ERROR"],
    "warning": ["ERROR"],
    "error": ["ERROR"],
    "off": [],
}
"""Of an execution whose first attempt is retried and whose second fails for good."""
REFUSAL = r"^log_level is .*; give one of debug, info, warning, error, off, or None$"


def about(caplog: pytest.LogCaptureFixture, task_name: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if getattr(record, "task_name", None) == task_name]


async def failed(app: Durable, **options: Any) -> None:
    @app.task(name="quota", retry=Retry(max_attempts=2, delay="1ms"), **options)
    async def fails() -> None:
        raise ValueError

    async with running(app):
        await app.wait([await fails.enqueue()], timeout=PATIENCE)


@pytest.mark.parametrize("level", LEVELS)
async def test_a_level_is_the_least_that_is_logged(app: Durable, caplog: pytest.LogCaptureFixture, level: str) -> None:
    caplog.set_level(logging.DEBUG)
    await failed(app, log_level=level)
    assert [record.levelname for record in about(caplog, "quota")] == LEVELS[level]


async def test_without_a_level_the_logger_of_durable_decides(app: Durable, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "durable")
    await failed(app)
    assert [record.levelname for record in about(caplog, "quota")] == LEVELS["warning"]


async def test_a_level_of_its_own_wins_over_a_quieter_logger(app: Durable, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "durable")
    caplog.handler.setLevel(logging.NOTSET)
    await failed(app, log_level="debug")
    assert [record.levelname for record in about(caplog, "quota")] == LEVELS["debug"]


async def test_what_the_whole_process_switched_off_stays_off(app: Durable, caplog: pytest.LogCaptureFixture) -> None:
    logging.disable(logging.INFO)
    try:
        await failed(app, log_level="debug")
    finally:
        logging.disable(logging.NOTSET)
    assert [record.levelname for record in about(caplog, "quota")] == LEVELS["warning"]


async def test_a_record_names_the_execution_and_has_no_payload(app: Durable, caplog: pytest.LogCaptureFixture) -> None:
    @app.task(log_level="debug")
    async def greet(name: str) -> str:
        return f"hello {name}"

    async with running(app):
        handle = await greet.enqueue("canary")
        await handle.result(PATIENCE)
    records = about(caplog, "greet")
    assert {getattr(record, "execution_id", None) for record in records} == {handle.execution_id}
    assert [record.getMessage() for record in records] == [
        f"attempt 1 of 1 of execution {handle.execution_id} (task greet) starts",
        f"attempt 1 of 1 of execution {handle.execution_id} (task greet) is over: completed",
    ]


async def test_turns_of_a_job_are_logged_under_its_readable_id(app: Durable, caplog: pytest.LogCaptureFixture) -> None:
    @app.continuous(state=int, schedule=every("1d"), log_level="error")
    async def refresh(ctx: ContinuousContext[int]) -> None:
        raise ValueError

    async with running(app):
        await refresh.start("ada", 0)
        with pytest.raises(JobExecutionError):
            await refresh.trigger("ada", wait=True)
    (record, *_) = about(caplog, "continuous:refresh")
    assert (record.levelname, "(job continuous:refresh:ada) failed with ValueError" in record.getMessage()) == (
        "ERROR",
        True,
    )


@pytest.mark.parametrize("level", ["loud", "DEBUG", logging.INFO, True, ["info"]])
def test_what_is_no_level_is_refused_where_it_is_given(level: Any) -> None:
    app = Durable("memory:")
    with pytest.raises(ConfigurationError, match=REFUSAL):

        @app.task(log_level=level)
        async def work() -> None: ...

    with pytest.raises(ConfigurationError, match=REFUSAL):
        app.task_job("basket", state=int, event=int, log_level=level)
