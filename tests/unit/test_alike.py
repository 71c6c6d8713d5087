"""Rows that differ in their id and input alone are the same rows, kept as columns."""

from __future__ import annotations

from typing import Any, Final

import pytest

from durable.alike import alike, samples
from durable.execution import Kind, NewExecution
from durable.testing import Maker

ROWS: Final = [row._replace(input=f'"{number}"') for number, row in enumerate(Maker().rows(5, queue="q", delay=1.5))]
OTHERS: Final[dict[str, Any]] = {
    "task_name": "other", "task_version": 2, "queue": "other", "priority": 1, "retry": "{}", "max_attempts": 9,
    "max_deliveries": 9, "timeout": 1.0, "delay": 2.0, "is_pooled": True, "serial_key": "key", "on_complete": "{}",
    "kind": Kind.LOOP,
}  # fmt: skip
"""A value of each field that may differ between roots, and that none of the rows has."""
UNFIT: Final[dict[str, Any]] = {
    "root_id": "another", "parent_id": "parent", "child_index": 0, "is_finalize": True, "depth": 1,
    "idempotency_key": "key", "kind": Kind.SLEEPING, "outlives_parent": True,
}  # fmt: skip
"""What none of them may be, not even all of them."""


def test_they_are_the_rows_that_they_were_made_of() -> None:
    found = alike(ROWS)
    assert found is not None
    assert (list(found), len(found)) == (ROWS, 5)
    assert (found[1], found[-1]) == (ROWS[1], ROWS[-1])
    assert list(found[1:3]) == ROWS[1:3]
    assert alike(found) is found


@pytest.mark.parametrize("field", OTHERS)
@pytest.mark.parametrize("place", [0, -1])
def test_one_that_differs_in_a_field_makes_them_others(field: str, place: int) -> None:
    rows = list(ROWS)
    rows[place] = rows[place]._replace(**{field: OTHERS[field]})
    assert alike(rows) is None


@pytest.mark.parametrize("field", UNFIT)
def test_rows_with_more_than_an_id_in_their_way_are_others(field: str) -> None:
    assert alike([row._replace(**{field: UNFIT[field]}) for row in ROWS]) is None


def test_a_sample_tells_what_they_share() -> None:
    found = alike(ROWS)
    assert found is not None
    assert list(samples(found)) == ROWS[:1]
    assert list(samples(found[:0])) == []
    mixed: list[NewExecution] = [*ROWS, ROWS[0]._replace(queue="other")]
    assert samples(mixed) is mixed
