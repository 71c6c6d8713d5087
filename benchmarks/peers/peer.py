"""What is compared: a library at one version, its program, how it is set up, and what it promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["PROMISES", "Peer"]

PROMISES = {
    "finished": "rows of finished work",
    "results": "results",
    "ends": "when an end is stored",
    "checkpoints": "when a step's result is stored",
    "crash": "after a crash of the worker",
}
"""What is asked of every library, since a figure says little without it."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A library in the comparison."""

    name: str
    version: str
    configuration: str
    """As its documentation advises for speed; what that leaves open is set to what was fastest here."""
    promises: Mapping[str, str]
    """An answer to each of PROMISES."""
    program: str
    """The file beside this one that measures; without an end it is a module, which our own environment runs."""
    requirements: str | None = None
    """The file, or for Node the folder, that pins its packages; None for one that our own environment runs."""
    cannot: Mapping[str, str] = field(default_factory=dict[str, str])
    """The workloads it has no means for, and why."""
    default_pace: str | None = None
    """For one that only polls: how often it does by default. Where it is idle, it is measured at that pace too."""
