"""Stored histories are run against other code: what fits, what does not, and what would be next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from durable import ConfigurationError, Durable, Status, WorkflowContext
from durable.script import Ask
from durable.testing import ReplayedHistory, VirtualStorage, app_under_test, replay_histories
from durable.workflow.stored import dump_history, load_history, read_histories
from tests.jobs.crew import client_only


async def _stored_by(app: Durable, storage: VirtualStorage) -> list[str]:
    """Three executions of `flow`: completed, waiting for a signal, and failed; gives their ids, newest first."""

    async def charge(amount: int) -> int:
        if amount < 0:
            raise ValueError("no money")
        return amount

    @app.workflow
    async def flow(ctx: WorkflowContext, amount: int) -> int:
        charged = await ctx.step(charge, amount)
        await ctx.sleep("1h")
        return charged if amount > 1 else await ctx.wait_signal("more", int)

    async with app_under_test(app, storage=storage) as kit:
        ids = [(await flow.enqueue(amount)).execution_id for amount in (2, 1, -1)]
        await kit.clock.advance("2h")
    return ids[::-1]


def _later() -> Durable:
    return Durable("postgresql://nobody@nowhere.invalid/nothing")


async def _replayed(app: Durable, storage: VirtualStorage) -> list[ReplayedHistory]:
    """All of them, the newest first."""
    async with client_only(storage, app):
        found = await replay_histories(app, app.storage, include_finished=True)
    return sorted(found, key=lambda each: each.execution_id, reverse=True)


async def test_the_same_steps_fit_and_none_is_run(app: Durable, storage: VirtualStorage) -> None:
    failed, waiting, done = await _stored_by(app, storage)
    later, ran = _later(), []

    async def charge(amount: int) -> int:
        ran.append(amount)
        return amount

    @later.workflow
    async def flow(ctx: WorkflowContext, amount: int) -> int:
        charged = await ctx.step(charge, amount)
        await ctx.sleep("2h")
        await ctx.step(charge, 0)
        return charged

    found = await _replayed(later, storage)
    assert [each.execution_id for each in found] == [failed, waiting, done]
    assert all(each.fits and each.workflow == "flow" for each in found)
    assert found[0].end == "StepFailed: step 'charge#1' failed: ValueError: no money"
    assert [each.waits_for for each in found] == [(), ("step 'charge#2'",), ("step 'charge#2'",)]
    assert (found[2].ignored, found[2].end, ran) == ((), None, [])


async def test_of_a_storage_what_goes_on_is_looked_at(app: Durable, storage: VirtualStorage) -> None:
    failed, waiting, done = await _stored_by(app, storage)
    async with client_only(storage, app):
        found = await replay_histories(app, app.storage, limit=1)
        assert [(each.execution_id, each.status) for each in found] == [(waiting, Status.WAITING)]
        both = await replay_histories(app, app.storage, limit=1, include_finished=True)
        assert [(each.execution_id, each.status) for each in both[1:]] == [(failed, Status.FAILED)]
        every = await replay_histories(app, app.storage, include_finished=True)
        assert [each.execution_id for each in every] == [waiting, failed, done]


def _items(count: int) -> Iterator[int]:
    yield from range(count)


@pytest.mark.parametrize("is_sized", [True, False])
async def test_a_map_over_fewer_items_does_not_fit(app: Durable, storage: VirtualStorage, *, is_sized: bool) -> None:
    async def replayed_with(count: int) -> ReplayedHistory:
        app = _later()

        @app.workflow
        async def slow(ctx: WorkflowContext, n: int) -> None:
            await ctx.wait_signal("go", bool)

        @app.workflow(version=count)  # which makes it other code
        async def flow(ctx: WorkflowContext) -> None:
            await ctx.map(slow, list(range(count)) if is_sized else _items(count))

        async with app_under_test(app, storage=storage) as kit:
            if count == 3:
                await flow.enqueue()
                await kit.drain()
            (found,) = [each for each in await replay_histories(app, app.storage) if each.workflow == "flow"]
            return found

    assert (await replayed_with(3)).fits
    assert (await replayed_with(4)).fits
    assert "a map of at least 3 items" in ((await replayed_with(2)).problem or "")


async def test_what_changed_its_kind_does_not_fit(app: Durable, storage: VirtualStorage) -> None:
    await _stored_by(app, storage)
    later = _later()

    @later.task(name="charge")
    async def charge(amount: int) -> int:
        return amount

    @later.workflow
    async def flow(ctx: WorkflowContext, amount: int) -> int:
        return await ctx.child(charge, amount)

    found = await _replayed(later, storage)
    assert not any(each.fits for each in found)
    assert "the history has step 'charge#1', the code came to child 'charge#1'" in (found[0].problem or "")


async def test_what_is_left_out_is_told(app: Durable, storage: VirtualStorage) -> None:
    await _stored_by(app, storage)
    later = _later()

    @later.workflow
    async def flow(ctx: WorkflowContext, amount: int) -> int:
        await ctx.sleep("1h")
        return amount

    _, _, done = await _replayed(later, storage)
    assert (done.fits, done.ignored, done.end) == (True, ("charge#1",), "completed")


async def test_an_input_that_is_not_taken_and_a_workflow_that_is_gone_do_not_fit(
    app: Durable, storage: VirtualStorage, tmp_path: Path
) -> None:
    ids = await _stored_by(app, storage)
    changed, other = _later(), _later()

    @changed.workflow
    async def flow(ctx: WorkflowContext, amount: list[str]) -> None: ...

    assert "InvalidInput" in ((await _replayed(changed, storage))[0].problem or "")
    files = await _exported(app, storage, ids, tmp_path)
    (found, *_) = await replay_histories(other, files)
    assert found.problem == "this app has no workflow named 'flow'"


async def test_exported_histories_are_replayed_as_stored_ones(
    app: Durable, storage: VirtualStorage, tmp_path: Path
) -> None:
    ids = await _stored_by(app, storage)
    files = await _exported(app, storage, ids, tmp_path)
    found = await replay_histories(app, files)
    assert found == await _replayed(app, storage)
    assert [each.end for each in found][2] == "completed"
    assert found[1].waits_for == ("wait 'signal:more#1'",)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 9}', '{"format": 1, "status": "completed"}'])
def test_what_is_no_exported_history_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        load_history(text)


async def _exported(app: Durable, storage: VirtualStorage, ids: list[str], folder: Path) -> list[Path]:
    files: list[Path] = []
    async with client_only(storage, app):
        records = [record for record in await app.storage.get(ids) if record is not None]
        script = read_histories(records)
        asked = script.send(None)
        assert isinstance(asked, Ask)
        with pytest.raises(StopIteration) as end:
            script.send(await asked.make(app.storage))
    for stored in end.value.value:
        files.append(folder / f"{stored.claimed.id}.json")
        files[-1].write_text(json.dumps(dump_history(stored)), encoding="utf-8")
        assert load_history(files[-1].read_text(encoding="utf-8")) == stored
    return files
