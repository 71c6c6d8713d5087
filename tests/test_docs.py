"""Every piece of Python in the documentation is what a type checker, strict, takes as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.support.doc_blocks import blocks_of, module_of
from tests.support.sources import ROOT

SHOP: Final = """
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from durable import (
    Completion, Durable, LifecycleEvent, OnComplete, PublishedValues, Retry, TaskContext, WorkflowContext, exponential
)
app = Durable()
@dataclass
class Order:
    id: Any
@dataclass
class Receipt:
    total: int
@app.task
async def charge(order: Order) -> Receipt: return Receipt(1)
async def refund(receipt: Receipt) -> None: ...
@app.task
async def ship(order: Order) -> None: ...
@app.task
async def mail(order: Order) -> None: ...
order = Order("1")
"""
TRANSFER: Final = """
async def withdraw(order: Order) -> None: ...
async def deposit(order: Order) -> str: ...
"""
PAGES: Final = {
    "docs/after-the-end.md": """
@dataclass
class Page:
    next: str | None
    rows: list[str]
async def send_receipt(order: Order, receipt: Receipt) -> None: ...
async def tell_support(order: Order, status: object, error: object) -> None: ...
orders = [order]
@app.task
async def counted(end: Completion[Receipt, None]) -> None: ...
async def fetch(cursor: str | None) -> Page: ...
async def store(page: Page) -> None: ...
""",
    "docs/approvals.md": """
from durable import ApprovalRecord
async def mail(to: str) -> None: ...
@app.workflow
async def refund(ctx: WorkflowContext, order: str) -> str: ...
token = ""
record: ApprovalRecord
""",
    "docs/changing-workflows.md": """
async def with_tax(order: Order) -> int: ...
async def without_tax(order: Order) -> int: ...
ctx: WorkflowContext
await charge(order)
""",
    "docs/events.md": "",
    "docs/jobs.md": "",
    "docs/schedules.md": "",
    "docs/testing.md": """
from pathlib import Path
from durable.jobs import Continuous
from durable.testing import Kit, VirtualStorage, app_under_test
from orders import app, send_mail
token_refresher: Continuous[int]
kit: Kit
""",
    "docs/timers.md": "",
    "docs/workflows.md": """
@app.workflow
async def checkout(ctx: WorkflowContext, order: Order) -> Receipt: ...
async def reserve(item: str) -> int: ...
STOCK: set[str] = set()
handle = await checkout.enqueue(order)
""",
    "docs/from/celery.md": """
import psycopg
connection: psycopg.AsyncConnection
def ship(receipt: Receipt) -> None: ...
""",
    "docs/from/dbos.md": TRANSFER,
    "docs/from/temporal.md": TRANSFER,
}
"""What the blocks of a page take for granted beside the shop."""
ORDERS: Final = """
@app.workflow
async def checkout(ctx: WorkflowContext, order: Order) -> Receipt: ...
"""
"""Beside what the page on testing shows of orders.py."""
LENIENT: Final = ("--allow-untyped-defs", "--allow-any-generics", "--no-warn-return-any")
"""Tests of users, and short programs, need not be strict in everything."""
LEFT_OUT: Final = ("--disable-error-code=empty-body", "--disable-error-code=union-attr")
"""Bodies that only stand for one, and what a test knows to be there."""
FOREIGN: Final = ("# Celery\n", "# DBOS\n", "# Temporal\n")
"""How blocks begin that show what others do."""


def test_every_page_with_python_is_looked_at() -> None:
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}

    assert {page for page in pages if blocks_of(page)} == set(PAGES)


def test_all_python_in_the_documentation_is_typed(tmp_path: Path) -> None:
    for page, before in PAGES.items():
        name = re.sub(r"\W", "_", page.removeprefix("docs/").removesuffix(".md"))
        for number, block in enumerate(blocks_of(page), 1):
            if not block.startswith(FOREIGN):
                (tmp_path / f"{name}_{number}.py").write_text(module_of(block, SHOP, before), encoding="utf-8")
    app, *_ = blocks_of("docs/testing.md")
    (tmp_path / "orders.py").write_text(f"{SHOP}{app}{ORDERS}", encoding="utf-8")

    ended = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *LENIENT, *LEFT_OUT, *sorted(tmp_path.glob("*.py"))],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stdout + ended.stderr
