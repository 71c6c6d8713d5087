"""New executions that differ in their id and input alone, kept as what they share and two columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import starmap
from typing import Final, overload

from durable.execution import Kind, NewExecution

__all__ = ["Alike", "alike", "is_plain_root", "samples", "with_input"]

_AFTER_IDS: Final = NewExecution._fields.index("root_id") + 1
_INPUT: Final = NewExecution._fields.index("input")


class Alike(Sequence[NewExecution]):
    """Roots as one call of `enqueue_many` makes them: rows for whoever asks for a row, columns for who takes columns.

    `model` is one of them with any id and input; it has neither an idempotency key nor a sleeping id, so that nothing
    but its id can stand in the way of a row.
    """

    __slots__ = ("ids", "inputs", "model")

    def __init__(self, model: NewExecution, ids: Sequence[str], inputs: Sequence[str]) -> None:
        self.model = model
        self.ids = ids
        self.inputs = inputs

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[NewExecution]:
        return starmap(self._row, zip(self.ids, self.inputs, strict=True))

    @overload
    def __getitem__(self, index: int) -> NewExecution: ...
    @overload
    def __getitem__(self, index: slice) -> Alike: ...
    def __getitem__(self, index: int | slice) -> NewExecution | Alike:
        if isinstance(index, slice):
            return Alike(self.model, self.ids[index], self.inputs[index])
        return self._row(self.ids[index], self.inputs[index])

    def _row(self, id_: str, stored: str) -> NewExecution:
        return with_input(self.model, id_, stored)


def with_input(model: NewExecution, execution_id: str, stored: str) -> NewExecution:
    """A root as the model is, with an id and an input of its own."""
    return NewExecution._make((execution_id, execution_id, *model[_AFTER_IDS:_INPUT], stored, *model[_INPUT + 1 :]))


def alike(rows: Sequence[NewExecution]) -> Alike | None:
    """The rows as such ones; None where they differ in more, or more than an id might stand in their way."""
    if isinstance(rows, Alike):
        return rows
    first = rows[0]
    if not is_plain_root(first):
        return None
    columns = dict(zip(NewExecution._fields, zip(*rows, strict=True), strict=True))
    ids, root_ids, inputs = columns.pop("id"), columns.pop("root_id"), columns.pop("input")
    if root_ids != ids or any(column.count(column[0]) < len(rows) for column in columns.values()):
        return None
    return Alike(first, ids, inputs)


def is_plain_root(row: NewExecution) -> bool:
    """Whether it stands in no tree and nothing but its id can stand in the way of storing it."""
    return (
        row.root_id == row.id
        and row.parent_id is None
        and row.child_index is None
        and row.idempotency_key is None
        and row.idempotency_hash is None
        and row.sleeping_id is None
        and row.kind is not Kind.SLEEPING
        and not (row.depth or row.is_finalize or row.outlives_parent)
    )


def samples(rows: Sequence[NewExecution]) -> Sequence[NewExecution]:
    """Enough of the rows to tell what holds for any of them, as long as it is not of their ids and inputs."""
    return rows[:1] if isinstance(rows, Alike) else rows
