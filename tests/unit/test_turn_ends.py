"""What an attempt writes when its turn ends is what the state machine says, for every kind and phase."""

from __future__ import annotations

from itertools import product

import pytest

from durable.execution import Claimed, Kind, Phase, Settlement, Status
from durable.testing import Maker
from durable.transitions import (
    Event,
    State,
    apply,
    cancelled,
    complete,
    fail,
    release,
    repeat,
    spawn,
    spawn_finalize,
    suspend,
)
from durable.workflow_rows import Suspension

TURNS = [(kind, phase, 3, 2) for kind, phase in product(Kind, Phase)]


def turn_of(kind: Kind, phase: Phase, attempts: int, deliveries: int) -> tuple[State, Claimed]:
    """A running state and the claim that gave it."""
    state = State(
        kind=kind, status=Status.RUNNING, phase=phase, fence=9, settled_fence=7, attempts=attempts,
        deliveries=deliveries, iteration=2, children_count=2,
    )  # fmt: skip
    claimed = Claimed(
        "id", 9, kind, "task", 1, phase, "{}", attempts, deliveries, 2, 5, None, None, '"run"', '"error"', "id", None,
        None, False, 0, "default", 0, 0.0,
    )  # fmt: skip
    return state, claimed


def assert_image(state: State, event: Event, settlement: Settlement) -> None:
    """The settlement writes what the machine says."""
    count = len(settlement.children)
    after = apply(state, event, children=count)
    assert (settlement.id, settlement.fence) == ("id", state.fence)
    assert after.settled_fence == settlement.fence
    for name in ("status", "phase", "attempts", "deliveries", "iteration"):
        assert getattr(settlement, name) == getattr(after, name), name
    assert after.active_children_count == state.active_children_count + count


@pytest.mark.parametrize(("kind", "phase", "attempts", "deliveries"), TURNS)
class TestBuilders:
    def test_complete_is_what_the_machine_says(self, kind: Kind, phase: Phase, attempts: int, deliveries: int) -> None:
        state, turn = turn_of(kind, phase, attempts, deliveries)
        settlement = complete(turn, '"done"')
        assert_image(state, Event.COMPLETE, settlement)
        kept = turn.run_output if kind is Kind.WORKFLOW else None
        assert (settlement.output, settlement.run_output, settlement.error) == ('"done"', kept, None)
        assert settlement.is_bare is (settlement.workflow is None)
        assert not complete(turn._replace(parent_id="parent"), '"done"').is_bare

    @pytest.mark.parametrize("timed_out", [False, True])
    def test_fail_for_good_is_what_the_machine_says(
        self, kind: Kind, phase: Phase, attempts: int, deliveries: int, timed_out: bool
    ) -> None:
        state, turn = turn_of(kind, phase, attempts, deliveries)
        settlement = fail(turn, '"new"', retry_delay=None, timed_out=timed_out, reason="why")
        assert_image(state, Event.TIME_OUT if timed_out else Event.FAIL, settlement)
        assert (settlement.output, settlement.run_output) == (None, '"run"')
        assert (settlement.error, settlement.reason) == ('"new"', "why")

    @pytest.mark.parametrize("delay", [0.0, 2.5])
    def test_fail_with_a_retry_is_what_the_machine_says(
        self, kind: Kind, phase: Phase, attempts: int, deliveries: int, delay: float
    ) -> None:
        state, turn = turn_of(kind, phase, attempts, deliveries)
        settlement = fail(turn, '"new"', retry_delay=delay)
        assert_image(state, Event.RETRY, settlement)
        assert (settlement.delay, settlement.run_output, settlement.error) == (delay, '"run"', '"new"')

    def test_repeat_is_what_the_machine_says(self, kind: Kind, phase: Phase, attempts: int, deliveries: int) -> None:
        state, turn = turn_of(kind, phase, attempts, deliveries)
        settlement = repeat(turn, 2.5, '"state"')
        assert_image(state, Event.REPEAT, settlement)
        assert (settlement.delay, settlement.run_output, settlement.error) == (2.5, '"state"', None)

    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_spawn_is_what_the_machine_says(
        self, kind: Kind, phase: Phase, attempts: int, deliveries: int, count: int
    ) -> None:
        state, turn = turn_of(kind, phase, attempts, deliveries)
        settlement = spawn(turn, '"own"', Maker().children(turn, count))
        assert_image(state, Event.SPAWN, settlement)
        assert (len(settlement.children), settlement.run_output) == (count, '"own"')

    def test_spawn_finalize_is_what_the_machine_says(
        self, kind: Kind, phase: Phase, attempts: int, deliveries: int
    ) -> None:
        state, turn = turn_of(kind, phase, attempts, deliveries)
        settlement = spawn_finalize(turn, Maker().finalize(turn))
        assert_image(state, Event.SPAWN_FINALIZE, settlement)
        assert settlement.run_output == '"run"'

    def test_release_is_what_the_machine_says(self, kind: Kind, phase: Phase, attempts: int, deliveries: int) -> None:
        state, turn = turn_of(kind, phase, attempts, deliveries)
        settlement = release(turn)
        assert_image(state, Event.RELEASE, settlement)
        assert (settlement.run_output, settlement.error, settlement.delay) == ('"run"', '"error"', 0.0)

    def test_suspension_is_what_the_machine_says(
        self, kind: Kind, phase: Phase, attempts: int, deliveries: int
    ) -> None:
        state, turn = turn_of(kind, phase, attempts, deliveries)
        assert_image(state, Event.SUSPEND, Maker().suspension(turn))


WAITS = [(3, 2), (1, 1)]


@pytest.mark.parametrize(("attempts", "deliveries"), WAITS)
class TestWorkflows:
    def test_suspend_without_a_delay_waits(self, attempts: int, deliveries: int) -> None:
        state, turn = turn_of(Kind.WORKFLOW, Phase.RUN, attempts, deliveries)
        settlement = suspend(turn, Suspension(seen_messages=2, wake_at_children=0))
        assert_image(state, Event.SUSPEND, settlement)
        assert (settlement.run_output, settlement.error, settlement.is_suspension) == ('"run"', None, True)

    def test_suspend_with_a_delay_sleeps(self, attempts: int, deliveries: int) -> None:
        state, turn = turn_of(Kind.WORKFLOW, Phase.RUN, attempts, deliveries)
        settlement = suspend(turn, Suspension(delay=2.5))
        assert_image(state, Event.SLEEP, settlement)
        assert (settlement.delay, settlement.run_output, settlement.is_suspension) == (2.5, '"run"', True)

    def test_suspend_to_continue_as_new_repeats(self, attempts: int, deliveries: int) -> None:
        state, turn = turn_of(Kind.WORKFLOW, Phase.RUN, attempts, deliveries)
        settlement = suspend(turn, Suspension(delay=2.5, continued='"next"'))
        assert_image(state, Event.REPEAT, settlement)
        assert (settlement.delay, settlement.run_output, settlement.is_suspension) == (0.0, '"next"', False)

    def test_cancelled_is_what_the_machine_says(self, attempts: int, deliveries: int) -> None:
        state, turn = turn_of(Kind.WORKFLOW, Phase.RUN, attempts, deliveries)
        settlement = cancelled(turn, '"asked"', "why")
        assert_image(state, Event.ACCEPT_CANCEL, settlement)
        assert (settlement.error, settlement.reason, settlement.output) == ('"asked"', "why", None)

    def test_every_other_end_of_a_workflow_says_that_it_is_one_and_no_suspension(
        self, attempts: int, deliveries: int
    ) -> None:
        _, turn = turn_of(Kind.WORKFLOW, Phase.RUN, attempts, deliveries)
        writes = Suspension(delay=2.5, wake_at_children=0)
        given = [complete(turn, "1", writes), cancelled(turn, "1", "why", writes), fail(
            turn, "1", retry_delay=None, writes=writes), fail(turn, "1", retry_delay=1.0, writes=writes)]  # fmt: skip
        bare = [complete(turn, "1"), cancelled(turn, "1", "why"), fail(turn, "1", retry_delay=1.0), release(turn)]
        assert [settlement.workflow for settlement in given] == [writes] * 4
        assert [settlement.workflow for settlement in bare] == [Suspension()] * 4
        assert not any(settlement.is_suspension for settlement in [*given, *bare])

    def test_ends_of_other_kinds_are_no_workflows(self, attempts: int, deliveries: int) -> None:
        _, turn = turn_of(Kind.TASK, Phase.RUN, attempts, deliveries)
        ends = [complete(turn, "1"), fail(turn, "1", retry_delay=None), release(turn)]
        assert [(settlement.workflow, settlement.is_suspension) for settlement in ends] == [(None, False)] * 3
