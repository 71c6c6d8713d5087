"""What the database says of a census: how far it is, who holds what, and whether each child counted once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from durable import Durable, Execution, Handle, Status
from durable.storage import ExecutionFilter
from examples.census.tasks import Census, FileCounts, count_one

__all__ = ["Evidence", "evidence_of", "held_by", "progress_of"]

_CLAIM_AND_END = 2
"""How often the fence of a record rises for each time it is handed out: when it is claimed, and when that ends."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Read from the children's records after the end."""

    children: int
    completed: int
    delivered_again: int
    """Children that were handed out more than once: interrupted, or failed and retried."""
    faults: list[str] = field(default_factory=list[str])
    """What should not be; empty in a census that can be believed."""


async def progress_of(handle: Handle[Census]) -> tuple[int, int]:
    """How many children have finished, and how many there are; the parent keeps count."""
    parent = await handle.execution()
    return parent.children_count - parent.active_children_count, parent.children_count


async def held_by(app: Durable, handle: Handle[Census], executor_id: str) -> list[str]:
    """The ids of the children that an executor is running, or was when it died."""
    where = ExecutionFilter(statuses=(Status.RUNNING,), parent_id=handle.execution_id)
    running = await app.storage.search(where, limit=1000)
    return [child.id for child in running if child.executor_id == executor_id]


async def evidence_of(app: Durable, handle: Handle[Census], files: Iterable[Path]) -> Evidence:
    """Look for whatever was lost, counted twice, or run twice without a reason."""
    wanted = [str(path) for path in files]
    ends = await app.children(handle.execution_id)
    records = await app.storage.get([end.execution_id for end in ends])
    children = [record for record in records if record is not None]
    found: list[FileCounts] = [end.output for end in ends if end.output is not None]
    again = {child.id for child in children if child.fence > _CLAIM_AND_END}
    explained = {end.execution_id for end in ends if end.output is not None and end.output.previous_error}
    faults = [
        *_faults_of_counts(wanted, [each.path for each in found]),
        *_faults_of_records(children, len(wanted)),
        *(
            f"{_path_of(child)} was handed out again without a reason"
            for child in children
            if child.id in again - explained
        ),
    ]
    completed = sum(child.status == Status.COMPLETED for child in children)
    return Evidence(len(children), completed, len(again), faults)


def _faults_of_counts(wanted: list[str], counted: list[str]) -> list[str]:
    faults = [f"{path} was lost" for path in sorted(set(wanted) - set(counted))]
    faults += [f"{path} was not asked for" for path in sorted(set(counted) - set(wanted))]
    if len(set(counted)) < len(counted):
        faults.append(f"{len(counted) - len(set(counted))} files were counted twice")
    return faults


def _faults_of_records(children: list[Execution], wanted: int) -> list[str]:
    faults = [f"{_path_of(child)} is {child.status}" for child in children if child.status != Status.COMPLETED]
    places = {child.child_index for child in children}
    if places != set(range(wanted)) or len(children) != wanted:
        faults.append(f"there are {len(children)} children in {len(places)} places for {wanted} files")
    return faults


def _path_of(child: Execution) -> str:
    args, kwargs = count_one.definition.signature.load(child.input)
    return str((*args, *kwargs.values())[0])
