"""Kinds: from a claimed turn to an outcome. The table below is the only dispatch on the kind of an execution."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from durable.execution import Kind
from durable.kinds import callback, job, loop, parent, sequence, task, workflow
from durable.kinds.turn import Turn
from durable.outcomes import Outcome

__all__ = ["OWN_LIMIT", "RUNNERS"]

RUNNERS: Final[Mapping[Kind, Callable[[Turn], Awaitable[Outcome]]]] = {
    Kind.TASK: task.run,
    Kind.PARENT: parent.run,
    Kind.SEQUENCE: sequence.run,
    Kind.LOOP: loop.run,
    Kind.TURN: job.run,
    Kind.CALLBACK: callback.run,
    Kind.WORKFLOW: workflow.run,
    # A sleeping task is never claimed: it waits until it is woken or its deadline passes.
}

OWN_LIMIT: Final = frozenset({Kind.WORKFLOW})
"""Kinds whose timeout is not that of one attempt: they keep it themselves."""
