"""Which changes of code make another fingerprint, and which do not."""

from __future__ import annotations

import importlib
import linecache
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from durable.workflow.fingerprint import fingerprint

FLOWS = """
import json
from typing import TYPE_CHECKING

import {top}.prices
from {top} import rates
from .rules import price, TABLE
from .deep.taxes import tax

if TYPE_CHECKING:
    from .guarded import Guarded

def helper(x): return price(x)

async def body(ctx): return helper(1)

def later():
    from .lazy import slow
"""
FILES = {
    "__init__.py": "",
    "flows.py": FLOWS,
    "prices.py": "A = 1",
    "rates.py": "B = 1",
    "rules.py": "from .below import base\nTABLE = {}\ndef price(x): return base(x)",
    "below.py": "def base(x): return x",
    "deep/__init__.py": "",
    "deep/taxes.py": "def tax(x): return x",
    "lazy.py": "slow = 1",
    "guarded.py": "class Guarded: ...",
    "beside.py": "C = 1",
}


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """The fingerprint of a body in a package of its own; some of its files with other text."""
    top = f"shop_{uuid4().hex}"
    sys.path.insert(0, str(tmp_path))

    def take(**changed: str) -> str:
        _forget(top)
        for name, text in (FILES | {f"{key.replace('__', '/')}.py": text for key, text in changed.items()}).items():
            path = tmp_path / top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.format(top=top) if name == "flows.py" else text)
        for name in ("guarded", "beside") if changed else ():
            importlib.import_module(f"{top}.{name}")  # another process has loaded more
        body: Any = importlib.import_module(f"{top}.flows").body
        return fingerprint.__wrapped__(body, 1)

    yield take
    sys.path.remove(str(tmp_path))
    _forget(top)


def _forget(top: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == top]:
        del sys.modules[name]
    importlib.invalidate_caches()
    linecache.clearcache()


def test_the_same_files_have_the_same_one_wherever_they_are_read(taken: Callable[..., str]) -> None:
    assert taken() == taken(flows=FLOWS)


@pytest.mark.parametrize("module", ["flows", "prices", "rates", "rules", "deep__taxes"])
def test_modules_that_the_one_of_the_body_imports_are_in_it(taken: Callable[..., str], module: str) -> None:
    before = taken()
    text = FILES[f"{module.replace('__', '/')}.py"]
    assert taken(**{module: f"{text}\n# another price"}) != before


@pytest.mark.parametrize("module", ["below", "lazy", "guarded", "beside"])
def test_others_are_not(taken: Callable[..., str], module: str) -> None:
    before = taken()
    assert taken(**{module: f"{FILES[f'{module}.py']}\n# another price"}) == before
