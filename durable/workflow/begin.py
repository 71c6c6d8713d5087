"""From a definition and a claim to a body that waits to be run over its history."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime
from functools import partial
from typing import Any, cast

from durable.definition import Definition, WorkflowSpec
from durable.execution import Claimed
from durable.workflow.body import give_up, run_body
from durable.workflow.context import WorkflowContext
from durable.workflow.desk import Desk
from durable.workflow.fingerprint import fingerprint
from durable.workflow.outbox import Outbox
from durable.workflow.replay import Replay
from durable.workflow.requests import Update
from durable.workflow.step import StepPlans
from durable.workflow.undoing import Undoing, input_of, undone_later
from durable.workflow.updates import Updates

__all__ = ["begin"]


def begin(
    definition: Definition,
    claimed: Claimed,
    plans: StepPlans,
    desk: Desk | None,
    *,
    find: Callable[[str], Definition | None],
    started_at: datetime,
) -> Replay:
    """Not started yet; without a desk it opens no approvals. `find` gives the definition of a name.

    Raises InvalidInput for an input that the body's annotations do not take any more, and StepMismatch where what
    undoes the work of earlier runs is not there any more.
    """
    spec = definition.spec
    assert isinstance(spec, WorkflowSpec)
    continued = claimed.run_output
    args, kwargs = definition.signature.load(claimed.input if continued is None else input_of(continued))

    updates = Updates(cast("dict[str, Update[..., Any]]", spec.updates), definition.codec)
    undoing = Undoing(undone_later(continued, plans, find))

    def body(replay: Replay) -> Coroutine[Any, Any, Any]:
        context = WorkflowContext(replay, claimed, definition, plans, updates, undoing, desk)
        updates.context = context
        replay.give_up = partial(give_up, spec.finalize, context, replay)
        return run_body(definition.function, spec.finalize, context, replay, args, kwargs, definition.dump_result)

    replay = Replay(
        body,
        started_at=started_at,
        code=fingerprint(definition.function, definition.options.version),
        load_error=definition.codec.load_error,
        outbox=Outbox(),
        updates=updates,
        # Of an iteration: one that continues as new must not meet its own numbers again.
        seed=f"{claimed.id}/{claimed.iteration}",
    )
    replay.input_size = len(claimed.input if continued is None else continued)
    replay.to_undo = lambda: undoing.names
    return replay
