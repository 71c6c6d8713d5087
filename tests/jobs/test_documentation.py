"""What docs/jobs.md shows runs as it stands there."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest

from durable import Durable, Retry, every
from durable.jobs import (
    Continuous,
    ContinuousContext,
    Debounce,
    DebounceContext,
    EventContext,
    SyncContinuous,
    SyncDebounce,
    SyncTask,
    Task,
    Timer,
)
from durable.testing import VirtualStorage, app_under_test
from tests.flow.place import soon
from tests.support.sources import ROOT

TEXT = (ROOT / "docs" / "jobs.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(3), ids=["Continuous", "Debounce", "Task"])
async def test_an_example_runs(
    storage: VirtualStorage, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(EXAMPLES) == 3
    module: dict[str, Any] = {"__name__": "example"}
    monkeypatch.setitem(sys.modules, "example", _Module(module))
    exec(compile(EXAMPLES[number], "example", "exec", dont_inherit=True), module)  # the documentation itself
    app: Durable = module["app"]
    with app.override(storage=storage.storage):
        await soon(module["main"]())
    printed = capsys.readouterr().out
    expected = ("run_count=2", "{'name': 'Ada', 'mail': 'ada@example.org'} 2 manual", "Basket(items=['lamp']")[number]
    assert expected in printed


class _Module:
    """Where dataclasses and annotations of an example are looked up."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.__dict__ = names


def rows_of(page: str) -> dict[str, str]:
    """The rows of its tables by the first name in them."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return {found[1]: line for line in text.splitlines() if (found := re.match(r"\| `([^`]+)`", line))}


@pytest.mark.parametrize("declared", [Continuous, Debounce, Task, Timer])
def test_everything_that_a_job_offers_is_in_the_reference(declared: type) -> None:
    row = rows_of("reference.md")[declared.__name__]
    assert [name for name in dir(declared) if not name.startswith("_") and f"`{name}`" not in row] == []


@pytest.mark.parametrize(
    ("declared", "blocking"), [(Continuous, SyncContinuous), (Debounce, SyncDebounce), (Task, SyncTask)]
)
def test_a_blocking_client_has_the_same_calls(declared: type, blocking: type) -> None:
    decorators = {"name", "on_event", "execute", "on_idle", "on_error"}
    offered = {name for name in dir(declared) if not name.startswith("_")} - decorators
    assert {name for name in dir(blocking) if not name.startswith("_")} == offered


async def test_every_fact_of_the_events_of_jobs_is_documented(app: Durable, storage: VirtualStorage) -> None:
    @app.continuous(state=int, schedule=every("1m"), retry=Retry(2, "1s"), on_exhausted="purge")
    async def ticker(ctx: ContinuousContext[int]) -> None:
        if ctx.run_count == 2:
            raise ValueError("no")

    @app.debounce(event=int, flush_after="10s", max_events=5)
    async def batcher(ctx: DebounceContext[int, int]) -> None: ...

    order = app.task_job("order", state=int, event=int)

    @order.on_event
    async def on_event(ctx: EventContext[int, int], event: int) -> None:
        ctx.schedule("1d")

    @app.task
    async def remind() -> None:
        raise ValueError("no")

    rows = rows_of("events.md")
    text = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    async with app_under_test(app, storage=storage) as kit:
        await ticker.start("k", 0)
        await batcher.add("k", 1)
        await order.send("k", 1)
        await app.timers.after("1s", remind.child(), owner="o", retry_interval="1h")
        await kit.clock.advance("10m")
        events = kit.events("job.*", "debounce.*", "task.*")
        assert {event.name for event in events} == {name for name in rows if re.match(r"(job|debounce|task)\.", name)}
        of_timer = {"timer_id", "owner", "task_name"}
        for event in events:
            known = set(re.findall(r"`(\w+)`", rows[event.name])) | (of_timer if event.kind == "timer" else set())
            assert set(event.data) <= known, event.name
    assert all(f"`{name}`" in text for name in of_timer)
