"""What a workflow that waits takes of memory: an estimate that costs nothing, because nothing is looked at for it."""

from __future__ import annotations

from typing import Final

from durable.workflow.entries import StartChild
from durable.workflow.replay import Replay

__all__ = ["footprint"]

_BODY: Final = 10_000
_WAIT: Final = 3_000
_ENTRY: Final = 50
_CHARACTER: Final = 8
"""Bytes, as measured. What was read from JSON takes as much as its text if it is one, and 5 to 12 times that if it is
made of lists and objects."""


def footprint(replay: Replay) -> int:
    """About how many bytes: a base, each thing that the body waits for, each entry of its history, and each character
    of all that it was given, its input, results and messages, as if it still had them."""
    waits = replay.open
    children = sum(len(wait.command.child.new.input) for wait in waits if isinstance(wait.command, StartChild))
    texts = replay.input_size + replay.met_size + replay.inbox.size
    return _BODY + len(waits) * _WAIT + replay.seq * _ENTRY + texts * _CHARACTER + children
