"""durable explain: why an execution does not run, or how it stands, in sentences."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from durable.cli.exits import Exit
from durable.cli.options import add_storage_options, opened
from durable.cli.output import clean, out_console, print_json, state_text
from durable.execution import FINISHED, SUCCEEDED, ChildOutcome
from durable.explain import Finding, Scene, explain, state_of
from durable.handle import only
from durable.ids import parse_id
from durable.storage import Storage

__all__ = ["add_arguments", "run"]

_DEEPEST: Final = 20
_SHOWN_CHILDREN: Final = 10


@dataclass(frozen=True, slots=True)
class _Explanation:
    scene: Scene
    findings: list[Finding]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_storage_options(parser)
    parser.add_argument("id", help="the execution's id")


def run(args: argparse.Namespace) -> int:
    with opened(args) as storage:
        chain = _explain_chain(storage, args.id)
    if args.json:
        print_json(_nested(chain))
    else:
        console = out_console()
        for depth, explanation in enumerate(chain):
            _print(console, explanation, depth)
    status = chain[0].scene.execution.status
    return Exit.FAILED if status in FINISHED - SUCCEEDED else Exit.OK


def _explain_chain(storage: Storage, execution_id: str) -> list[_Explanation]:
    """The execution, the first child it waits for, the first that this one waits for, and so on.

    Raises ExecutionNotFound for the first only.
    """
    executors = storage.executors().run()
    execution = only(storage.get([parse_id(execution_id)]).run(), execution_id)
    chain: list[_Explanation] = []
    while len(chain) < _DEEPEST:
        unfinished = _unfinished(storage, execution.id) if execution.active_children_count else []
        scene = Scene(execution, storage.now().run(), executors, unfinished)
        chain.append(_Explanation(scene, explain(scene)))
        if execution.is_finished or not unfinished:
            break
        (child,) = storage.get([unfinished[0].id]).run()
        if child is None:
            break
        execution = child
    return chain


def _unfinished(storage: Storage, parent_id: str) -> list[ChildOutcome]:
    return [child for child in storage.children([parent_id]).run() if child.status not in FINISHED]


def _nested(chain: list[_Explanation]) -> dict[str, Any]:
    found: dict[str, Any] | None = None
    for explanation in reversed(chain):
        scene = explanation.scene
        found = {
            "id": scene.execution.id,
            "task_name": scene.execution.task_name,
            "status": scene.execution.status,
            "state": state_of(scene.execution, scene.now),
            "findings": [finding._asdict() for finding in explanation.findings],
            "unfinished_children": [
                {"id": child.id, "task_name": child.task_name, "status": child.status}
                for child in scene.unfinished[:_SHOWN_CHILDREN]
            ],
            "first_unfinished_child": found,
        }
    assert found is not None
    return found


def _print(console: Console, explanation: _Explanation, depth: int) -> None:
    execution = explanation.scene.execution
    head = Text("first of them: " if depth else "")
    head.append(f"{execution.id}  ")
    head.append(clean(execution.task_name), style="bold")
    head.append("  ")
    head.append_text(state_text(execution.status, state_of(execution, explanation.scene.now)))
    console.print(_indented(head, depth))
    for finding in explanation.findings:
        console.print(_indented(Text(clean(finding.text, 2000)), depth + 1))
        if finding.advice:
            console.print(_indented(Text(f"→ {finding.advice}", style="bold"), depth + 1))


def _indented(text: Text, depth: int) -> Padding:
    return Padding(text, (0, 0, 0, 2 * depth), expand=False)
