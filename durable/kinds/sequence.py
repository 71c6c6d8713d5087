"""The sequence: one child after another, each with the result of the one before as its argument."""

from __future__ import annotations

from durable.child import Child
from durable.definition import Definition, SequenceSpec, new_execution
from durable.errors import ErrorInfo
from durable.execution import NewExecution, Phase, Status
from durable.kinds.turn import EndedBy, Turn
from durable.options import Overrides
from durable.outcomes import Completed, Spawned

__all__ = ["run"]


async def run(turn: Turn) -> Completed | Spawned:
    spec = turn.definition.spec
    assert isinstance(spec, SequenceSpec)
    if turn.claimed.phase == Phase.RUN:
        return Spawned(None, (_child(turn, spec.steps[0], turn.claimed.input),))
    ends = turn.complete_family(await turn.children())
    last = ends[-1]
    if last.status != Status.COMPLETED:
        error = turn.definition.load_error(last.error) or ErrorInfo(str(last.status), "")
        raise EndedBy(
            ErrorInfo(error.type, f"step {len(ends) - 1} ({last.task_name}): {error.message}", is_retryable=False)
        )
    done = len(ends)
    if done == len(spec.steps):
        return Completed(last.output or "null")
    value = spec.steps[done - 1].result.load(last.output or "null", f"the output of step {done - 1}")
    step = spec.steps[done]
    return Spawned(None, (_child(turn, step, step.dump_input((value,), {})),))


def _child(turn: Turn, step: Definition, stored_input: str) -> NewExecution:
    new = new_execution(step, stored_input, Overrides(step.options), turn.services.ids.new_id())
    return turn.place(Child(new), turn.claimed.iteration)
