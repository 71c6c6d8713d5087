"""Run a stored history against the code of this process, without a storage, and without running any step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from durable.definition import Definition
from durable.errors import DurableError, ErrorInfo, StepMismatch
from durable.execution import Kind, Status
from durable.workflow.begin import begin
from durable.workflow.context import ContinueAsNew
from durable.workflow.entries import STUCK
from durable.workflow.fanout import MapChildren
from durable.workflow.replay import Replay
from durable.workflow.step import StepPlans
from durable.workflow.stored import StoredHistory

__all__ = ["ReplayedHistory", "replay_history"]


@dataclass(frozen=True, slots=True)
class ReplayedHistory:
    """What the code makes of a history."""

    execution_id: str
    workflow: str
    status: Status
    """What the workflow was when its history was read: whether one that has finished fits does not matter to it."""
    problem: str | None
    """Why the workflow could not go on with this code; None: it could."""
    entry_count: int
    """The number of the last entry of the history that the body was given before a problem, if there is one."""
    ignored: tuple[str, ...]
    """Keys of the history that the code does not ask for."""
    waits_for: tuple[str, ...]
    """What the body asks for next, or waits for: such as `step 'charge#2'`."""
    end: str | None
    """How the body ended: `completed`, `continued`, `stopped`, or its error; None: it has not."""

    @property
    def fits(self) -> bool:
        return self.problem is None


def replay_history(find: Callable[[str], Definition | None], stored: StoredHistory) -> ReplayedHistory:
    """Nothing is written and no step is run: the body gets what is stored, and then stops.

    `find` gives the definition of a name. Nothing is raised for a body, whatever it does.
    """
    definition = find(stored.claimed.task_name)
    if definition is None or definition.kind is not Kind.WORKFLOW:
        return _refused(stored, f"this app has no workflow named {stored.claimed.task_name!r}")
    try:
        replay = begin(
            definition,
            stored.claimed,
            StepPlans(lambda: definition.codec),
            None,
            find=find,
            started_at=stored.claimed.created_at,
        )
    except DurableError as error:
        return _refused(stored, f"{type(error).__name__}: {error}")
    try:
        return _replayed(replay, definition, stored)
    finally:
        replay.close()


def _replayed(replay: Replay, definition: Definition, stored: StoredHistory) -> ReplayedHistory:
    problem = None
    try:
        replay.start(stored.entries, stored.messages)
        if replay.ended is None:
            _check_maps(replay)
    except StepMismatch as error:
        problem = str(error)
    return ReplayedHistory(
        stored.claimed.id,
        stored.claimed.task_name,
        stored.status,
        problem,
        replay.seq,
        replay.unmet_keys,
        tuple(replay.waits_for),
        _end(replay, definition),
    )


def _check_maps(replay: Replay) -> None:
    """Their items are looked at when the next wave is started, which a replay does not come to. Raises StepMismatch."""
    for pending in replay.open:
        if isinstance(pending.command, MapChildren):
            try:
                pending.command.check_started()
            except StepMismatch:
                raise
            except Exception:  # noqa: S112 - of what a user iterates over, with which the map fails
                continue


def _end(replay: Replay, definition: Definition) -> str | None:
    ended = replay.ended
    if ended is None:
        return None
    match ended.error:
        case None:
            return "completed"
        case ContinueAsNew():
            return "continued"
        case asyncio.CancelledError():
            return f"{STUCK}: {replay.stop_reason}" if replay.stop_kind == STUCK else "stopped"
        case error:
            info: ErrorInfo = definition.codec.error_info(error, is_retryable=False)
            return str(info)


def _refused(stored: StoredHistory, problem: str) -> ReplayedHistory:
    return ReplayedHistory(stored.claimed.id, stored.claimed.task_name, stored.status, problem, 0, (), (), None)
