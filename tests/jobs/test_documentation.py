"""What docs/jobs.md shows runs as it stands there."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest

from durable import Durable
from durable.testing import VirtualStorage
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
