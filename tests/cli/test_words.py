"""The words for lengths of time and for the status of an execution."""

from __future__ import annotations

from typing import Any

import pytest

from durable.execution import CloseStatus, Status
from durable.explain import span, state_of
from tests.cli.records import ERROR, LOST, after, record
from tests.cli.stage import NOW


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 ms"), (0.35, "350 ms"), (0.9996, "1 s"), (2.44, "2.4 s"), (9.96, "10 s"), (59.4, "59 s"),
        (59.6, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (86_400, "1 d"), (273_600, "3 d 4 h"), (-2, "2 s"),
    ],
)  # fmt: skip
def test_span_gives_the_two_units_that_say_most(seconds: float, expected: str) -> None:
    assert span(seconds) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "ready"),
        ({"due_at": after(30)}, "ready (in 30 s)"),
        ({"error": ERROR, "attempts": 2}, "retrying (attempt 3 of 5)"),
        ({"error": ERROR, "attempts": 2, "due_at": after(2)}, "retrying (attempt 3 of 5, in 2 s)"),
        ({"error": LOST}, "ready"),
        ({"status": Status.RUNNING, "lease_expires_at": after(12)}, "running (lease 12 s left)"),
        ({"status": Status.WAITING}, "waiting"),
        ({"status": Status.WAITING, "wait_expires_at": after(60)}, "waiting (1 min left)"),
        ({"status": Status.WAITING_FOR_CHILDREN, "active_children_count": 3}, "waiting_for_children (3 left)"),
        ({"status": Status.FAILED, "reason": "poisoned", "close_status": CloseStatus.CLOSED}, "failed (poisoned)"),
        ({"status": Status.CANCELLED, "close_status": CloseStatus.CLOSING}, "cancelled (closing)"),
        ({"status": Status.COMPLETED, "close_status": CloseStatus.CLOSED}, "completed"),
    ],
)
def test_the_state_is_the_status_with_what_follows_from_it(fields: dict[str, Any], expected: str) -> None:
    assert state_of(record(**fields), NOW) == expected
