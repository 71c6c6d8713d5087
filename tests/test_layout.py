"""The house rules that no other tool holds: sizes, imports, SQL, and that what is public is documented."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from types import FunctionType
from typing import Final

import pytest

import durable
import durable.jobs
import durable.storage
import durable.testing
from durable.cli import COMMANDS
from durable.storage import Operation, Storage
from durable.workflow.context import WorkflowContext
from durable.workflow.sync_handle import SyncWorkflowHandle
from durable.workflow.workflow import Workflow, WorkflowHandle
from durable.workflow_rows import SendOutcome
from tests.support.sources import PACKAGES, ROOT, functions, parsed, python_files, text_files

LONGEST_FILE: Final = 600
LONGEST_FUNCTION: Final = 60
PUBLIC_MODULES: Final = (durable, durable.jobs, durable.storage, durable.testing)
DESCRIBED_BY_NAME: Final = (Workflow, WorkflowContext, WorkflowHandle, SyncWorkflowHandle)
NOT_FOR_USERS: Final = frozenset({"callback_text", "check_callback", "is_workflow", "roll_back", "shape", "split"})
"""For type checkers and for our own layers."""
SQL: Final = re.compile(
    r"\b(select\s.+\sfrom|insert\s+into|update\s.+\sset|delete\s+from|truncate\s|listen\s|notify\s"
    r"|(create|alter|drop)\s+(table|schema|index|function|database|type|role))\b",
    re.IGNORECASE | re.DOTALL,
)
# Spelt so that no pattern meets itself.
FORBIDDEN: Final = {
    r"\b(TO[D]O|FIX[M]E|XX[X]|HAC[K])\b": "do it, or leave it out",
    r"/(work|home|Users)/\w": "a path of one machine",
    r"(?i)\b(blazin[g]|seamles[s]|effortles[s]|cutting.edg[e]|game.chang[ei]|world.clas[s]|supercharg[e])":
        "marketing",
}  # fmt: skip


def shown(path: Path, line: int | None = None) -> str:
    return f"{path.relative_to(ROOT)}" + ("" if line is None else f":{line}")


# --- size ------------------------------------------------------------------------------------------------------------


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    lengths = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}

    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    lengths = {
        f"{shown(path, function.lineno)} {function.name}": (function.end_lineno or 0) - function.lineno + 1
        for path in python_files()
        for function in functions(parsed(path))
    }

    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


# --- shape -----------------------------------------------------------------------------------------------------------


def test_every_file_says_its_job_first() -> None:
    assert [shown(path) for path in python_files() if parsed(path).body and not ast.get_docstring(parsed(path))] == []


def test_nothing_is_imported_inside_a_function() -> None:
    found = [
        shown(path, node.lineno)
        for path in python_files(*PACKAGES, "benchmarks", "examples")
        for function in functions(parsed(path))
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]

    assert found == []


def test_no_sql_is_built_from_text() -> None:
    found = [
        shown(path, node.lineno)
        for path in python_files(*PACKAGES)
        for node in ast.walk(parsed(path))
        if SQL.search(built_text(node))
    ]

    assert found == []


def test_the_look_for_built_sql_sees_each_way_to_build_it() -> None:
    ways = ['f"select {x} from t"', '"insert into %s" % t', '"drop table {}".format(t)', '"delete from " + t']

    assert [way for way in ways if not any(SQL.search(built_text(node)) for node in ast.walk(ast.parse(way)))] == []


def built_text(node: ast.AST) -> str:
    """The constant parts of a text that is put together at run time; nothing for any other node."""
    match node:
        case ast.JoinedStr():
            parts: Iterable[ast.AST] = node.values
        case ast.BinOp(op=ast.Mod() | ast.Add()):
            parts = (node.left, node.right)
        case ast.Call(func=ast.Attribute(value=ast.Constant() as template, attr="format")):
            parts = (template,)
        case _:
            return ""
    return " ".join(part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str))


def test_no_file_says_what_it_must_not() -> None:
    found = [
        f"{shown(path, number)}: {reason}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for pattern, reason in FORBIDDEN.items()
        if re.search(pattern, line)
    ]

    assert found == []


def test_tests_wait_for_events_and_none_is_left_out() -> None:
    pattern = re.compile(r"\b(time|asyncio)\.slee[p]\(|pytest\.(mark\.)?(ski[p]|xfai[l])")
    found = [
        shown(path, number)
        for path in python_files("durable", "tests")
        if path.name.startswith("test_") or "contract" in path.parts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]

    assert found == []


# --- what is public --------------------------------------------------------------------------------------------------


def test_every_public_name_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(\w+)", reference))

    missing = {f"{module.__name__}.{name}" for module in PUBLIC_MODULES for name in set(module.__all__) - documented}
    assert missing == set()


def named_in_row_of(described: type) -> set[str]:
    """The names in code type in the row of the reference that a class has."""
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    (row,) = [line for line in reference.splitlines() if line.startswith(f"| `{described.__name__}` |")]
    return set(re.findall(r"`(\w+)", row))


@pytest.mark.parametrize("described", DESCRIBED_BY_NAME)
def test_every_public_method_of_workflows_is_in_its_row_of_the_reference(described: type) -> None:
    ours = [base for base in described.__mro__ if base.__module__.startswith("durable")]
    public = {name for base in ours for name in vars(base) if not name.startswith("_")}

    assert public - NOT_FOR_USERS - named_in_row_of(described) == set()


def test_every_outcome_of_a_signal_is_in_the_reference() -> None:
    assert {str(outcome) for outcome in SendOutcome} - named_in_row_of(SendOutcome) == set()


def test_every_public_class_and_function_says_what_it_is() -> None:
    public = {getattr(module, name) for module in PUBLIC_MODULES for name in module.__all__}
    # Errors stand in the tree at the top of their file; the words of an enum speak for themselves.
    described = [
        value
        for value in public
        if inspect.isfunction(value) or (inspect.isclass(value) and not issubclass(value, BaseException | Enum))
    ]

    assert len(described) > 30
    assert [value for value in described if not own_docstring(value)] == []


def own_docstring(value: type | FunctionType) -> str | None:
    """As written: dataclasses and named tuples make one up where there is none."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(value))).body
    assert isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    return ast.get_docstring(node)


def test_every_command_is_in_the_documentation() -> None:
    text = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/reference.md"))

    assert [name for name in COMMANDS if f"durable {name}" not in text] == []


def test_every_event_is_documented() -> None:
    text = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")

    assert [name for name in durable.EventName if f"`{name}`" not in text] == []


def test_every_verb_of_the_seam_is_called_by_the_contract() -> None:
    verbs = {
        name
        for name, method in vars(Storage).items()
        if inspect.isfunction(method) and Operation.__name__ in str(inspect.signature(method).return_annotation)
    }
    called = {
        node.attr
        for path in python_files("durable")
        if "contract" in path.parts
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute)
    }

    assert len(verbs) > 20
    assert verbs - called == set()
