"""The state machine, exhaustively: every pair of status and event, and walks that keep the invariants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, replace
from itertools import product
from random import Random

import pytest

from durable.errors import TransitionRefused
from durable.execution import FINISHED, UNSTARTED, CloseStatus, Execution, Kind, Phase, Status
from durable.transitions import (
    CLOSE_TRANSITIONS,
    TRANSITIONS,
    CloseEvent,
    Event,
    State,
    apply,
    apply_close,
    close_status_after_finish,
    failed_status,
    first_state,
    is_suspect,
)

PAIRS = list(product(Status, Event))
DEFINED = [(status, event) for status, event in PAIRS if event in TRANSITIONS[status]]
UNDEFINED = [pair for pair in PAIRS if pair not in DEFINED]
RAISES_THE_FENCE = set(Event) - {Event.CHILDREN_FINISHED, Event.COUNT_START, Event.RESUME}
WAITS = {Status.WAITING_FOR_CHILDREN, Status.WAITING_FOR_FINALIZE}
TURN_ENDED = {"status", "fence", "settled_fence", "deliveries", "needs_cancel"}
MAY_CHANGE: dict[Event, set[str]] = {
    Event.CLAIM: {"status", "fence", "attempts", "deliveries", "reason"},
    Event.COUNT_START: {"deliveries", "reason"},
    Event.COMPLETE: TURN_ENDED | {"close_status"},
    Event.FAIL: TURN_ENDED | {"close_status"},
    Event.TIME_OUT: TURN_ENDED | {"close_status"},
    Event.RETRY: TURN_ENDED,
    Event.REPEAT: TURN_ENDED | {"attempts", "iteration"},
    Event.SPAWN: TURN_ENDED | {"phase", "attempts", "iteration", "children_count", "active_children_count"},
    Event.SPAWN_FINALIZE: TURN_ENDED | {"phase", "attempts", "active_children_count"},
    Event.SUSPEND: TURN_ENDED | {"attempts"},
    Event.SLEEP: TURN_ENDED | {"attempts"},
    Event.RESUME: {"status"},
    Event.ACCEPT_CANCEL: TURN_ENDED | {"close_status"},
    Event.RELEASE: TURN_ENDED | {"attempts", "reason"},
    Event.EXPIRE_LEASE: {"status", "fence", "attempts", "reason", "close_status", "needs_cancel"},
    Event.CHILDREN_FINISHED: {"status", "active_children_count"},
    Event.WAKE_COMPLETED: {"status", "fence", "close_status"},
    Event.WAKE_FAILED: {"status", "fence", "close_status"},
    Event.EXPIRE_WAIT: {"status", "fence", "close_status"},
    Event.CANCEL: {"status", "fence", "close_status", "needs_cancel"},
    Event.REDRIVE: {"status", "phase", "fence", "attempts", "deliveries", "close_status", "reason", "needs_cancel"},
}


def states(status: Status) -> Iterator[State]:
    """Every state of that status that differs in what the machine looks at."""
    closes = [CloseStatus.READY, CloseStatus.CLOSING, CloseStatus.CLOSED] if status in FINISHED else [CloseStatus.IDLE]
    for kind, phase, close_status, children, deliveries in product(Kind, Phase, closes, (0, 1, 3), (1, 5)):
        active = 0 if close_status is CloseStatus.CLOSED or status not in WAITS | FINISHED else children
        yield State(
            kind=kind, status=status, phase=phase, fence=4, settled_fence=2, attempts=2, deliveries=deliveries,
            max_deliveries=5, iteration=3, children_count=children, active_children_count=active,
            close_status=close_status, reason="because", needs_cancel=status is Status.CANCELLED,
        )  # fmt: skip


def outcomes(status: Status, event: Event) -> list[tuple[State, int, State]]:
    """(before, children, after) for every state of the status in which the event is not refused."""
    found: list[tuple[State, int, State]] = []
    for before, children in product(states(status), (0, 1, 2)):
        try:
            found.append((before, children, apply(before, event, children=children)))
        except TransitionRefused:
            continue
    return found


class TestTable:
    def test_the_table_has_every_status(self) -> None:
        assert set(TRANSITIONS) == set(Status)
        assert set(CLOSE_TRANSITIONS) == set(CloseStatus)

    @pytest.mark.parametrize(("status", "event"), UNDEFINED)
    def test_a_pair_outside_the_table_is_refused_and_names_both(self, status: Status, event: Event) -> None:
        for before, children in product(states(status), (0, 1, 2)):
            with pytest.raises(TransitionRefused) as caught:
                apply(before, event, children=children)
            assert (caught.value.status, caught.value.event) == (status, event)

    @pytest.mark.parametrize(("status", "event"), DEFINED)
    def test_an_event_leads_everywhere_the_table_says_and_nowhere_else(self, status: Status, event: Event) -> None:
        assert {after.status for _, _, after in outcomes(status, event)} == set(TRANSITIONS[status][event])

    @pytest.mark.parametrize("status", list(Status))
    def test_apply_changes_no_state_in_place(self, status: Status) -> None:
        for event in Event:
            for before in states(status):
                copy = replace(before)
                with suppress(TransitionRefused):
                    apply(before, event, children=1)
                assert before == copy

    def test_every_state_field_is_a_field_of_the_record(self) -> None:
        assert {field.name for field in fields(State)} <= set(Execution._fields)

    def test_every_status_can_be_reached_from_a_first_state(self) -> None:
        reached = {first_state(kind, 5).status for kind in Kind}
        while more := {s for status in reached for to in TRANSITIONS[status].values() for s in to} - reached:
            reached |= more
        assert reached == set(Status)


class TestPromises:
    @pytest.mark.parametrize("event", sorted(RAISES_THE_FENCE))
    def test_the_event_raises_the_fence_by_one(self, event: Event) -> None:
        for status in Status:
            assert all(after.fence == before.fence + 1 for before, _, after in outcomes(status, event))

    @pytest.mark.parametrize("event", sorted(set(Event) - RAISES_THE_FENCE))
    def test_what_comes_from_elsewhere_leaves_the_fence(self, event: Event) -> None:
        found = [each for status in Status for each in outcomes(status, event)]
        assert all(after.fence == before.fence for before, _, after in found)

    @pytest.mark.parametrize(("status", "event"), DEFINED)
    def test_a_finished_state_is_on_its_way_to_be_closed_and_no_other_is(self, status: Status, event: Event) -> None:
        for _, _, after in outcomes(status, event):
            if after.status in FINISHED:
                assert after.close_status is (CloseStatus.READY if after.active_children_count else CloseStatus.CLOSED)
            else:
                assert after.close_status is CloseStatus.IDLE

    @pytest.mark.parametrize(("status", "event"), DEFINED)
    def test_counts_and_counters_never_fall_below_zero(self, status: Status, event: Event) -> None:
        for _, _, after in outcomes(status, event):
            assert min(after.attempts, after.deliveries, after.iteration) >= 0
            assert after.active_children_count >= 0
            assert after.settled_fence < after.fence

    @pytest.mark.parametrize("event", sorted(TRANSITIONS[Status.RUNNING]))
    def test_only_an_accepted_end_of_a_turn_is_remembered_as_settled(self, event: Event) -> None:
        for before, _, after in outcomes(Status.RUNNING, event):
            is_settled = event not in (Event.COUNT_START, Event.EXPIRE_LEASE, Event.CANCEL)
            assert after.settled_fence == (before.fence if is_settled else before.settled_fence)

    def test_a_claim_counts_an_attempt_and_the_delivery_of_what_is_no_suspect(self) -> None:
        for before, _, after in outcomes(Status.READY, Event.CLAIM):
            is_late = is_suspect(before.deliveries, before.max_deliveries)
            assert (after.attempts, after.deliveries) == (before.attempts + 1, before.deliveries + (not is_late))
            assert after.reason == (UNSTARTED if is_late else None)
            assert (after.status, after.phase) == (Status.RUNNING, before.phase)

    @pytest.mark.parametrize(
        ("limit", "suspected"), [(1, {0}), (2, {1}), (3, {2}), (4, {2, 3}), (5, {2, 3, 4}), (100, set(range(2, 100)))]
    )
    def test_a_suspect_was_lost_twice_or_has_one_delivery_left(self, limit: int, suspected: set[int]) -> None:
        assert {deliveries for deliveries in range(limit) if is_suspect(deliveries, limit)} == suspected

    def test_the_start_of_a_suspect_counts_once(self) -> None:
        for before, _, claimed in outcomes(Status.READY, Event.CLAIM):
            started = apply(claimed, Event.COUNT_START)
            assert (started.deliveries, started.reason) == (before.deliveries + 1, None)
            assert apply(started, Event.COUNT_START) == started

    def test_a_suspect_that_never_started_loses_no_delivery(self) -> None:
        waiting = State(deliveries=1, max_deliveries=2)
        for event in (Event.EXPIRE_LEASE, Event.RELEASE):
            after = apply(apply(waiting, Event.CLAIM), event)
            assert (after.status, after.attempts, after.deliveries) == (Status.READY, 0, 1)
        assert apply(apply(apply(waiting, Event.CLAIM), Event.COUNT_START), Event.EXPIRE_LEASE).reason == "poisoned"

    def test_a_release_takes_the_claim_back(self) -> None:
        for before, _, claimed in outcomes(Status.READY, Event.CLAIM):
            released = apply(claimed, Event.RELEASE)
            expected = replace(before, fence=before.fence + 2, settled_fence=claimed.fence, reason=None)
            assert released == expected

    @pytest.mark.parametrize(
        "event", sorted(set(TRANSITIONS[Status.RUNNING]) - {Event.COUNT_START, Event.RELEASE, Event.EXPIRE_LEASE})
    )
    def test_an_accepted_end_forgives_the_deliveries(self, event: Event) -> None:
        if event is Event.CANCEL:
            assert all(after.deliveries == before.deliveries for before, _, after in outcomes(Status.RUNNING, event))
        else:
            assert all(after.deliveries == 0 for _, _, after in outcomes(Status.RUNNING, event))

    def test_a_retry_keeps_the_attempts_and_a_repeat_does_not(self) -> None:
        assert all(after.attempts == 2 for _, _, after in outcomes(Status.RUNNING, Event.RETRY))
        for before, _, after in outcomes(Status.RUNNING, Event.REPEAT):
            assert (after.attempts, after.iteration) == (0, before.iteration + 1)

    def test_a_lost_lease_gives_the_attempt_back_until_the_deliveries_are_used_up(self) -> None:
        for before, _, after in outcomes(Status.RUNNING, Event.EXPIRE_LEASE):
            assert after.deliveries == before.deliveries
            if before.deliveries < before.max_deliveries:
                assert (after.status, after.attempts, after.reason) == (Status.READY, before.attempts - 1, None)
            else:
                assert (after.status, after.reason) == (failed_status(before.phase), "poisoned")
                assert after.attempts == before.attempts

    def test_failures_of_later_phases_are_called_finalize_failed(self) -> None:
        for event in (Event.FAIL, Event.TIME_OUT):
            for before, _, after in outcomes(Status.RUNNING, event):
                in_run = Status.FAILED if event is Event.FAIL else Status.TIMED_OUT
                assert after.status is (in_run if before.phase is Phase.RUN else Status.FINALIZE_FAILED)

    def test_a_spawn_counts_its_children_and_leads_to_their_phase(self) -> None:
        for before, children, after in outcomes(Status.RUNNING, Event.SPAWN):
            assert after.status is (Status.WAITING_FOR_CHILDREN if children else Status.READY)
            assert (after.phase, after.attempts) == (Phase.CHILDREN, 0)
            assert after.children_count == before.children_count + children
            assert after.active_children_count == before.active_children_count + children
            assert after.iteration == before.iteration + (before.kind is Kind.SEQUENCE)

    @pytest.mark.parametrize("children", [0, 2])
    def test_there_is_exactly_one_finalize_execution(self, children: int) -> None:
        for before in states(Status.RUNNING):
            with pytest.raises(TransitionRefused):
                apply(before, Event.SPAWN_FINALIZE, children=children)

    def test_a_finalize_execution_is_active_but_not_among_the_children(self) -> None:
        for before, _, after in outcomes(Status.RUNNING, Event.SPAWN_FINALIZE):
            assert after.children_count == before.children_count
            assert after.active_children_count == before.active_children_count + 1
            assert after.phase is Phase.FINALIZE

    @pytest.mark.parametrize("status", sorted(WAITS))
    def test_the_last_child_makes_its_parent_ready_and_no_other_does(self, status: Status) -> None:
        for before, children, after in outcomes(status, Event.CHILDREN_FINISHED):
            left = before.active_children_count - children
            assert after.active_children_count == left
            assert after.status is (Status.READY if left == 0 else status)
            assert after.phase is before.phase

    @pytest.mark.parametrize("status", sorted(WAITS))
    def test_more_children_than_are_active_cannot_finish(self, status: Status) -> None:
        for before in states(status):
            with pytest.raises(TransitionRefused):
                apply(before, Event.CHILDREN_FINISHED, children=before.active_children_count + 1)

    @pytest.mark.parametrize("status", sorted(set(Status) - FINISHED))
    def test_a_cancel_marks_what_runs_for_its_executor(self, status: Status) -> None:
        for before, _, after in outcomes(status, Event.CANCEL):
            assert after.needs_cancel is (status is Status.RUNNING)
            assert after.active_children_count == before.active_children_count

    @pytest.mark.parametrize("status", sorted(FINISHED - {Status.COMPLETED}))
    def test_a_redrive_starts_anew_from_what_failed(self, status: Status) -> None:
        found = outcomes(status, Event.REDRIVE)
        for before, _, after in found:
            assert before.kind not in (Kind.SLEEPING, Kind.TURN, Kind.WORKFLOW)
            assert before.close_status is CloseStatus.CLOSED
            assert status is Status.FINALIZE_FAILED or not before.children_count
            assert after.phase is (Phase.CHILDREN if status is Status.FINALIZE_FAILED else Phase.RUN)
            assert (after.attempts, after.deliveries, after.reason, after.needs_cancel) == (0, 0, None, False)

    @pytest.mark.parametrize("event", [Event.SLEEP, Event.RESUME, Event.ACCEPT_CANCEL])
    def test_only_a_workflow_sleeps_is_resumed_and_accepts_its_cancellation(self, event: Event) -> None:
        kinds = {before.kind for status in Status for before, _, _ in outcomes(status, event)}
        assert kinds == {Kind.WORKFLOW}

    def test_a_suspended_workflow_starts_its_next_turn_with_all_its_attempts(self) -> None:
        for event in (Event.SUSPEND, Event.SLEEP):
            for before, _, after in outcomes(Status.RUNNING, event):
                assert (after.attempts, after.deliveries, after.iteration) == (0, 0, before.iteration)

    def test_a_message_that_a_turn_was_marked_for_is_forgotten_with_the_turn(self) -> None:
        for event in sorted(set(TRANSITIONS[Status.RUNNING]) - {Event.CANCEL, Event.COUNT_START}):
            for before in states(Status.RUNNING):
                with suppress(TransitionRefused):
                    assert not apply(replace(before, needs_cancel=True), event, children=1).needs_cancel

    @pytest.mark.parametrize(("status", "event"), DEFINED)
    def test_an_event_changes_only_what_it_concerns(self, status: Status, event: Event) -> None:
        for before, _, after in outcomes(status, event):
            changed = {
                field.name for field in fields(State) if getattr(before, field.name) != getattr(after, field.name)
            }
            assert changed <= MAY_CHANGE[event]

    @pytest.mark.parametrize("kind", list(Kind))
    def test_a_first_state_is_ready_unless_it_sleeps(self, kind: Kind) -> None:
        state = first_state(kind, 7)
        assert state == State(
            kind=kind, status=Status.WAITING if kind is Kind.SLEEPING else Status.READY, max_deliveries=7
        )


class TestClose:
    @pytest.mark.parametrize(("status", "event"), list(product(CloseStatus, CloseEvent)))
    def test_a_close_event_leads_where_the_table_says_or_is_refused(
        self, status: CloseStatus, event: CloseEvent
    ) -> None:
        reached: set[CloseStatus] = set()
        for active in (0, 2):
            with suppress(TransitionRefused):
                reached.add(apply_close(status, event, active_children=active))
        assert reached == set(CLOSE_TRANSITIONS[status].get(event, set()))

    def test_nothing_is_closed_over_active_children(self) -> None:
        with pytest.raises(TransitionRefused):
            apply_close(CloseStatus.CLOSING, CloseEvent.CLOSE, active_children=1)
        assert apply_close(CloseStatus.IDLE, CloseEvent.FINISH, active_children=1) is CloseStatus.READY

    @pytest.mark.parametrize("status", list(Status))
    def test_a_finish_decides_the_close_status_as_the_close_event_does(self, status: Status) -> None:
        for active in (0, 1):
            expected = (
                apply_close(CloseStatus.IDLE, CloseEvent.FINISH, active_children=active)
                if status in FINISHED
                else CloseStatus.IDLE
            )
            assert close_status_after_finish(status, active) is expected


# --- walks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_a_random_life_keeps_every_invariant(seed: int) -> None:
    random = Random(seed)
    state = first_state(random.choice(list(Kind)), max_deliveries=random.randint(1, 4))
    retries_left = 5
    for _ in range(200):
        events = [event for event in TRANSITIONS[state.status] if event is not Event.RETRY or retries_left]
        if not events:
            break
        event = random.choice(sorted(events))
        children = random.randint(1, state.active_children_count) if state.active_children_count else 1
        before = state
        try:
            state = apply(state, event, children=children)
        except TransitionRefused:
            if before.status in FINISHED:
                break
            continue
        retries_left -= event is Event.RETRY
        _assert_sound(before, event, state)


def _assert_sound(before: State, event: Event, after: State) -> None:
    assert after.fence - before.fence == (event in RAISES_THE_FENCE)
    assert before.settled_fence <= after.settled_fence < max(after.fence, 1)
    assert 0 <= after.deliveries <= after.max_deliveries
    assert after.attempts >= 0
    assert after.attempts <= before.attempts + (event is Event.CLAIM)
    assert 0 <= after.active_children_count <= after.children_count + 1
    assert (after.status in WAITS) <= (after.active_children_count > 0)
    assert (after.status is Status.RUNNING) <= (
        after.attempts > 0 and (after.deliveries > 0 or after.reason == UNSTARTED)
    )
    assert (after.status in FINISHED) == (after.close_status in (CloseStatus.READY, CloseStatus.CLOSED))
