"""Beside busy pools: queues that had nothing are asked again when something rings or is due, and at a poll."""

from __future__ import annotations

import pytest

from durable.rooms.beside import Beside
from tests.unit.hand_clock import HandClock

POLL = 2.0


class Scene:
    def __init__(self) -> None:
        self.clock = HandClock()
        self.known: float | None = None
        self.beside = Beside(clock=self.clock, interval=POLL, look=self._look)

    async def _look(self) -> float | None:
        return self.known


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_queues_that_were_never_asked_are_asked(scene: Scene) -> None:
    assert not scene.beside.may_pass(0)


@pytest.mark.parametrize(
    ("known", "wait"), [(None, POLL), (0.5, 0.5), (7.0, POLL), (0.0, 0.03)], ids=["nothing", "due", "far", "now"]
)
async def test_queues_are_passed_over_until_something_is_due(scene: Scene, known: float | None, wait: float) -> None:
    scene.known = known
    await scene.beside.had_less(3, scene.clock.now)
    scene.clock.now += wait - 0.001
    assert scene.beside.may_pass(3)
    scene.clock.now += 0.002
    assert not scene.beside.may_pass(3)


async def test_the_time_counts_from_the_asking_and_not_from_the_look(scene: Scene) -> None:
    asked_at = scene.clock.now
    scene.clock.now += POLL
    await scene.beside.had_less(3, asked_at)
    assert not scene.beside.may_pass(3)


async def test_a_ring_has_the_queues_asked_at_once(scene: Scene) -> None:
    await scene.beside.had_less(3, scene.clock.now)
    assert not scene.beside.may_pass(4)


async def test_what_is_forgotten_is_asked_at_once(scene: Scene) -> None:
    await scene.beside.had_less(3, scene.clock.now)
    scene.beside.forget()
    assert not scene.beside.may_pass(3)
