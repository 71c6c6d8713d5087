"""What a body has registered to undo its work, and how that is carried over to the run it continues as new with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from durable.definition import Definition
from durable.errors import ConfigurationError, InvalidInput, SerializationError, StepMismatch
from durable.execution import Kind
from durable.workflow.asks import NO_ASKS, Asks
from durable.workflow.step import StepPlan, StepPlans

__all__ = ["Carried", "Compensation", "Undoing", "carried_of", "input_of", "undone_later"]

_MOST_CARRIED: Final = 1000
"""From one run to the next; they are read with each turn."""


class Carried(NamedTuple):
    """A call that undoes something, by the name of its task and its stored arguments."""

    task: str
    input: str
    options: str | None = None
    """Of the call, as Asks stores them."""


@dataclass(frozen=True, slots=True)
class Compensation:
    plan: StepPlan
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    asks: Asks = NO_ASKS
    """The options of the call, which the plan has already."""


class Undoing:
    """Of one workflow in memory, in the order in which it was registered."""

    def __init__(self, registered: list[Compensation]) -> None:
        self._registered = registered

    def register(self, compensation: Compensation) -> None:
        self._registered.append(compensation)

    def forget(self) -> None:
        self._registered.clear()

    def take_last(self) -> Compensation | None:
        return self._registered.pop() if self._registered else None

    @property
    def names(self) -> tuple[str, ...]:
        """In the order in which they would run."""
        return tuple(each.plan.name for each in reversed(self._registered))

    def carry(self) -> list[Carried]:
        """What the next run is to take over. Raises ConfigurationError for what cannot be stored, and InvalidInput."""
        if len(self._registered) > _MOST_CARRIED:
            raise ConfigurationError(
                f"{len(self._registered)} calls are registered by on_rollback, and continue_as_new takes "
                f"{_MOST_CARRIED} along; let go of what need not be undone any more with ctx.forget_rollback()"
            )
        return [_carried(each) for each in self._registered]


def _carried(compensation: Compensation) -> Carried:
    task = compensation.plan.task
    if task is None:
        raise ConfigurationError(
            f"continue_as_new cannot take along {compensation.plan.name!r}, registered by on_rollback: only a task has "
            "a stored form. Declare it with @app.task, or let go of it with ctx.forget_rollback() and let the next run "
            "register it anew if its work is still to be undone"
        )
    stored_input = task.dump_input(compensation.args, dict(compensation.kwargs))
    return Carried(task.name, stored_input, compensation.asks.to_json())


# --- the stored form: a JSON object in the place of the input that a run continues with ---------------------


def carried_of(stored_input: str, carried: list[Carried]) -> str:
    return json.dumps({"input": stored_input, "undo": carried})


def input_of(run_output: str) -> str:
    """The input that a workflow has continued with."""
    return str(json.loads(run_output)["input"])


def undone_later(
    run_output: str | None, plans: StepPlans, find: Callable[[str], Definition | None]
) -> list[Compensation]:
    """What earlier runs have registered. Raises StepMismatch where the code has no such task, or it takes other input.

    `find` gives the definition of a name.
    """
    stored: list[list[Any]] = [] if run_output is None else json.loads(run_output)["undo"]
    return [_compensation(Carried(*each), plans, find) for each in stored]


def _compensation(carried: Carried, plans: StepPlans, find: Callable[[str], Definition | None]) -> Compensation:
    task = find(carried.task)
    what = f"a call of task {carried.task!r} that undoes the work of an earlier run"
    if task is None or task.kind is not Kind.TASK:
        raise StepMismatch(what, "no task of that name", advice="declare the task under its name again")
    try:
        args, kwargs = task.signature.load(carried.input)
    except (InvalidInput, SerializationError) as error:
        raise StepMismatch(what, str(error), advice="let the task take what was stored, or run the old code") from error
    asks = Asks.from_json(carried.options)
    return Compensation(asks.on(plans.of_task(task)), args, kwargs, asks)
