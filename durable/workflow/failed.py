"""That a body has failed and its work is being undone: what the history keeps of it, and whether other code agrees."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from durable.errors import StepMismatch
from durable.workflow_rows import Entry

__all__ = ["Failed", "hold_to"]

_ADVICE: Final = (
    'work that is being undone is not gone back to: end it with cancel(running="force") and fork it from before that; '
    "or keep the old way for it behind ctx.patched(…), or bring the old code back, until it has ended"
)
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Failed:
    """How a body has turned back."""

    error: BaseException
    undo: tuple[str, ...]
    """The names of what is to be undone, in the order in which it runs."""

    @property
    def type(self) -> str:
        return type(self.error).__name__

    def __str__(self) -> str:
        return _told(self.type, self.undo)


def hold_to(entry: Entry, failed: Failed | None, found: str) -> None:
    """Raise StepMismatch where a body does not turn back as the history has it; `found` is what it does instead."""
    detail = json.loads(entry.detail or "{}")
    type_, undo = str(detail["type"]), tuple(detail["undo"])
    if failed is None or (failed.type, failed.undo) != (type_, undo):
        raise StepMismatch(_told(type_, undo), found if failed is None else str(failed), advice=_ADVICE)


def _told(type_: str, undo: tuple[str, ...]) -> str:
    if not undo:
        return f"a body that failed with {type_}"
    more = ", …" if len(undo) > _SHOWN else ""
    return f"a body that failed with {type_} and undoes {', '.join(undo[:_SHOWN])}{more}"
