"""Columns as array literals: values come back as they were, and what cannot be stored is not made into other ones."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from storage_postgres.arrays import texts

VALUES = ["", "plain", 'a "quoted" one', "back\\slash\\", '\\"', "{},", "NULL", "line\nline\t", "ä€😀", "\x01\x1f"]


@pytest.mark.parametrize(
    "values",
    [[], ["one"], [""], ["", ""], VALUES, [*VALUES, None], [None], [None, "NULL"], ["NULL"]],
    ids=lambda values: f"{len(values)} with {values[-1:]}",
)
def test_texts_come_back_as_they_were(postgres_control: psycopg.Connection[Any], values: list[str | None]) -> None:
    row = postgres_control.execute("select %s::text[]", [texts(values)]).fetchone()
    assert row == (values,)


@pytest.mark.parametrize("values", [["a\0b"], ["a", "b\0"], ["\0"], ["\0", None]])
def test_a_text_with_a_nul_is_refused_and_not_parted(
    postgres_control: psycopg.Connection[Any], values: list[str | None]
) -> None:
    with pytest.raises(psycopg.DataError, match="NUL"):
        postgres_control.execute("select %s::text[]", [texts(values)])
