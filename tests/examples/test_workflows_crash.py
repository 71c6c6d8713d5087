"""Every example of a workflow ends as it does undisturbed, wherever its executor is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable import Status
from durable.testing import CrashScene, crash_everywhere
from examples import agent, nightly_import, order_saga, refund_approval, subscription_billing
from examples.order_saga import Trip
from examples.refund_approval import Refund
from examples.subscription_billing import Subscription


async def test_a_trip_is_booked_or_undone() -> None:
    booked = await crash_everywhere(order_saga.travel, Trip("ada", "Oslo", 3))
    assert (booked.status, booked.undone) == (Status.COMPLETED, ())
    undone = await crash_everywhere(order_saga.travel, Trip("bob", "Rome", 30))
    assert (undone.status, len(undone.undone)) == (Status.FAILED, 2)


async def test_a_refund_is_decided_once() -> None:
    async def grant(scene: CrashScene) -> None:
        await scene.drain()
        await scene.advance("1d")
        for record in await refund_approval.app.approvals.list(status="pending"):
            await refund_approval.app.approvals.grant(record, by="alice")
        await scene.drain()

    granted = await crash_everywhere(refund_approval.refund, Refund("lamp", 20.0), script=grant)
    assert granted.result == "lamp: granted by alice"
    expired = await crash_everywhere(refund_approval.refund, Refund("sofa", 900.0))
    assert expired.result == "sofa: expired by nobody"


async def test_an_agent_answers_the_same() -> None:
    report = await crash_everywhere(agent.agent, "What does Postgres do here?")
    assert str(report.result).startswith("the text has 'Postgres' ")


async def test_a_year_is_billed() -> None:
    async def end(scene: CrashScene) -> None:
        await scene.advance("70d")
        await scene.handle.signal("plan", "end", signal_id="end")
        await scene.drain()

    report = await crash_everywhere(subscription_billing.subscription, Subscription("bob", "team"), script=end)
    assert report.result is not None
    assert (report.result.month, report.result.paid) == (3, 60.0)


async def test_rows_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nightly_import, "ROWS", 1_000)
    path = tmp_path / "words.csv"
    nightly_import.write_rows(path)
    report = await crash_everywhere(nightly_import.nightly, str(path))
    assert report.status is Status.COMPLETED
