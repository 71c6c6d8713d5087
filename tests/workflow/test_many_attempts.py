"""A step that is tried again and again: its attempts do not use up the history of its workflow."""

from __future__ import annotations

import pytest

from durable import Durable, Retry, WorkflowContext, constant
from durable.testing import VirtualStorage, app_under_test
from durable.workflow import replay as replays


async def test_only_the_last_failure_of_a_step_is_kept_and_none_counts(
    app: Durable, storage: VirtualStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "MOST_ENTRIES", 4)
    tried: dict[str, int] = {"a": 0, "b": 0}

    async def flaky(name: str) -> str:
        tried[name] += 1
        if tried[name] < 12:
            raise OSError(f"no {tried[name]}")
        return name

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[str]:
        patient = ctx.with_options(retry=Retry(100, constant("1m"), jitter=0))
        names = [await patient.step(flaky, "a"), await patient.step(flaky, "b")]
        await ctx.step(abs, 1)
        return names

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("8m")
        (history,) = await kit.app.storage.histories([(handle.execution_id, 0, 0)])
        assert [(entry.kind, entry.key) for entry in history.entries] == [("code", history.entries[0].key)] + [
            ("attempt", "flaky#1")
        ]
        assert "no 9" in (history.entries[-1].error or "")
    again = Durable("postgresql://nobody@nowhere.invalid/nothing")
    later = again.workflow(name="flow")(flow.definition.function)
    async with app_under_test(again, storage=storage) as kit:
        await kit.clock.advance("1h")
        assert await later.handle(handle.execution_id).result(timeout=0) == ["a", "b"]
        (history,) = await kit.app.storage.histories([(handle.execution_id, 0, 0)])
    assert [entry.kind for entry in history.entries] == ["code", "attempt", "step", "attempt", "step", "step"]
    assert tried == {"a": 12, "b": 12}


async def test_the_body_is_given_the_same_time_where_attempts_are_gone(app: Durable, storage: VirtualStorage) -> None:
    tried = 0

    async def flaky() -> int:
        nonlocal tried
        tried += 1
        if tried < 5:
            raise OSError("no")
        return tried

    @app.workflow
    async def flow(ctx: WorkflowContext) -> tuple[int, bool]:
        async def fine() -> bool:
            at = ctx.now()
            await ctx.sleep("1m")
            return at < ctx.now()

        patient = ctx.with_options(retry=Retry(9, constant("25s"), jitter=0))
        count, is_later = await ctx.gather(patient.step(flaky), fine())
        return count, is_later

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("1h")
        assert await handle.result(timeout=0) == (5, True)
        forked = await handle.fork()
        await kit.drain()
        assert await forked.result(timeout=0) == (5, True)
