"""Every way in which a turn can end, by name, so that a promise about settle can be held against all of them."""

from __future__ import annotations

from typing import Final

from durable.execution import Claimed, Kind, Phase, Settlement, Status
from durable.testing.contract.scene import CHILD, ERROR, FINALIZE, PARENT, Scene
from durable.transitions import complete, fail, release, repeat, spawn, spawn_finalize

__all__ = ["ENDS", "STATUS_AFTER", "end_of", "turn_for"]

STATUS_AFTER: Final = {
    "completed": Status.COMPLETED,
    "failed": Status.FAILED,
    "timed_out": Status.TIMED_OUT,
    "finalize_failed": Status.FINALIZE_FAILED,
    "retried": Status.READY,
    "repeated": Status.READY,
    "released": Status.READY,
    "spawned_nothing": Status.READY,
    "waiting": Status.WAITING,
    "waiting_for_children": Status.WAITING_FOR_CHILDREN,
    "waiting_for_finalize": Status.WAITING_FOR_FINALIZE,
}
ENDS: Final = tuple(STATUS_AFTER)


async def turn_for(scene: Scene, end: str) -> Claimed:
    """A turn that may end that way; the only claimable record of the store."""
    if end in ("finalize_failed", "waiting_for_finalize"):
        return await scene.later_turn()
    return await scene.turn(task_name=PARENT, kind=Kind.LOOP if end == "repeated" else Kind.PARENT)


def end_of(scene: Scene, turn: Claimed, end: str) -> Settlement:
    """The settlement by which the turn ends that way."""
    match end:
        case "completed":
            return complete(turn, '{"done": true}')
        case "failed":
            return fail(turn, ERROR, retry_delay=None)
        case "timed_out":
            return fail(turn, ERROR, retry_delay=None, timed_out=True)
        case "finalize_failed":
            assert turn.phase is not Phase.RUN
            return fail(turn, ERROR, retry_delay=None)
        case "retried":
            return fail(turn, ERROR, retry_delay=0.0)
        case "repeated":
            return repeat(turn, 0.0, '"state"')
        case "released":
            return release(turn)
        case "spawned_nothing":
            return spawn(turn, '"own"', ())
        case "waiting":
            return scene.make.suspension(turn)
        case "waiting_for_children":
            return spawn(turn, '"own"', scene.make.children(turn, 2, task_name=CHILD))
        case "waiting_for_finalize":
            return spawn_finalize(turn, scene.make.finalize(turn, task_name=FINALIZE))
        case _:
            raise ValueError(f"a turn does not end as {end}")
