"""The collector of the process: relaxed while an executor runs, put back as it was, never made to look more often."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from durable import ConfigurationError, Durable, ExecutorSettings
from durable.collector import Collector


@pytest.fixture(autouse=True)
def threshold() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


def test_a_collector_raises_the_threshold_and_puts_it_back() -> None:
    collector = Collector(5000)
    collector.relax()
    assert gc.get_threshold() == (5000, 10, 10)
    collector.restore()
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("others", [0, 5000, 9000])
def test_a_collector_that_is_off_or_looks_less_often_stays_as_it_is(others: int) -> None:
    gc.set_threshold(others, 10, 10)
    collector = Collector(5000)
    collector.relax()
    collector.restore()
    assert gc.get_threshold()[0] == others


def test_a_threshold_that_was_set_meanwhile_stays() -> None:
    collector = Collector(5000)
    collector.relax()
    gc.set_threshold(800, 10, 10)
    collector.restore()
    assert gc.get_threshold()[0] == 800


async def test_an_executor_relaxes_the_collector_as_long_as_it_runs() -> None:
    async with Durable("memory://") as app:
        async with app.executor():
            assert gc.get_threshold()[0] == ExecutorSettings().gc_threshold
        assert gc.get_threshold()[0] == 700
        async with app.executor(gc_threshold=None):
            assert gc.get_threshold()[0] == 700


def test_a_threshold_that_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="gc_threshold"):
        ExecutorSettings(gc_threshold=0)
