"""The table of cases and the tests are equal: no case loses its test unnoticed, and no numbered test is left out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.test_layout import ROOT, functions, parsed

COUNTS: Final[Mapping[str, int]] = {
    "GEN": 20,
    "CON": 24,
    "RET": 14,
    "DEB": 25,
    "TSK": 25,
    "POOL": 32,
    "TM": 16,
    "WF": 9,
}


def test_every_case_has_its_tests() -> None:
    expected = [f"{group}-{number:02}" for group, count in COUNTS.items() for number in range(1, count + 1)]
    assert list(table()) == expected
    assert [case for case, tests in table().items() if not tests] == []


def test_the_tests_of_the_table_are_there_and_numbered_ones_stand_in_their_rows() -> None:
    there = set(names())
    assert {name for tests in table().values() for name in tests} <= there
    for name in there:
        number = re.match(r"test_(gen|con|ret|deb|tsk|pool|tm|wf)_(\d\d)_", name)
        if number:
            assert name in table()[f"{number[1].upper()}-{number[2]}"]


def table() -> dict[str, list[str]]:
    rows = re.findall(r"^\| ([A-Z]+-\d\d) \| (.*) \|$", (ROOT / "tests/cases.md").read_text(encoding="utf-8"), re.M)
    return {case: re.findall(r"`(\w+)`", tests) for case, tests in rows}


def names() -> Iterator[str]:
    for folder in ("tests", "durable/testing/contract"):
        for path in sorted(Path(ROOT / folder).rglob("*.py")):
            yield from (found.name for found in functions(parsed(path)) if found.name.startswith("test_"))
