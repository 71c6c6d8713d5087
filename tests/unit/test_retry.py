"""The retry policy: its delays, its decisions, its limits, and its stored form."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable.durations import Duration
from durable.errors import ConfigurationError, ErrorInfo, NonRetryable, RetryAfter, SerializationError
from durable.retry import NO_RETRY, Constant, Retry, Strategy, constant, exponential, linear

MONTH = 30 * 86_400.0


def delays(strategy: Any, count: int) -> list[float]:
    policy = Retry(max_attempts=100, delay=strategy, jitter=0.0)
    return [policy.delay_before(attempt, 0.9) for attempt in range(1, count + 1)]


def ten_times(attempt: int) -> int:
    return attempt * 10


def as_minutes(attempt: int) -> str:
    return f"{attempt}m"


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (constant("2s"), [2, 2, 2, 2]),
        ("2s", [2, 2, 2, 2]),
        (timedelta(seconds=3), [3, 3, 3, 3]),
        (linear("1s"), [1, 2, 3, 4]),
        (linear("1s", max="2500ms"), [1, 2, 2.5, 2.5]),
        (linear("5s", max="1s"), [1, 1, 1, 1]),
        (exponential("1s"), [1, 2, 4, 8, 16, 30, 30]),
        (exponential("100ms", factor=3.0, max="1s"), [0.1, 0.3, 0.9, 1, 1]),
        (exponential("1s", factor=1.0, max="1h"), [1, 1, 1]),
        (exponential("1m", max="1s"), [1, 1]),
        (exponential(0), [0, 0, 0]),
        (exponential(5e-324), [0, 0, 0]),
        (exponential("1s", max=0), [0, 0]),
        (ten_times, [10, 20, 30]),
        (as_minutes, [60, 120]),
    ],
)
def test_the_delay_follows_the_strategy(strategy: Any, expected: list[float]) -> None:
    assert delays(strategy, len(expected)) == pytest.approx(expected)


@pytest.mark.parametrize("attempt", [1_100, 999_999])
def test_a_late_attempt_waits_for_the_cap_and_never_overflows(attempt: int) -> None:
    for strategy in (exponential("1s", factor=1_000.0, max="30d"), exponential("1ms", factor=1.01, max="30s")):
        assert Retry(1_000_000, strategy, 0.0).delay_before(attempt, 0.5) == strategy.max
    assert Retry(1_000_000, exponential(2.3e-308), 0.0).delay_before(attempt, 0.5) == 0.0
    assert Retry(1_000_000, exponential("1s", max="30d"), 0.0).delay_before(310, 0.5) == MONTH
    assert Retry(1_000_000, linear("30d"), 0.0).delay_before(attempt, 0.5) == MONTH


def test_jitter_is_on_by_default_and_spreads_over_the_upper_half() -> None:
    policy = Retry(delay="10s")
    assert [policy.delay_before(1, random) for random in (0.0, 0.5, 1.0)] == [10.0, 7.5, 5.0]


strategies: st.SearchStrategy[Strategy] = st.one_of(
    st.builds(constant, st.floats(0, MONTH)),
    st.builds(linear, st.floats(0, MONTH), max=st.floats(0, MONTH)),
    st.builds(exponential, st.floats(0, MONTH), factor=st.floats(1, 1_000), max=st.floats(0, MONTH)),
)


@settings(deadline=None)
@given(strategies, st.integers(1, 1_000_000), st.floats(0, 1), st.floats(0, 1))
def test_a_delay_is_never_negative_and_never_above_its_cap(
    strategy: Strategy, attempt: int, jitter: float, random: float
) -> None:
    cap = strategy.delay if isinstance(strategy, Constant) else strategy.max
    assert 0.0 <= Retry(delay=strategy, jitter=jitter).delay_before(attempt, random) <= cap


@settings(deadline=None)
@given(strategies, st.integers(1, 10_000))
def test_a_delay_never_shrinks_with_the_attempts(strategy: Strategy, attempt: int) -> None:
    policy = Retry(delay=strategy, jitter=0.0)
    assert policy.delay_before(attempt, 0.0) <= policy.delay_before(attempt + 1, 0.0) * (1 + 1e-12)


def test_a_delay_function_is_held_to_thirty_days_and_gets_jitter() -> None:
    policy = Retry(delay=lambda attempt: "365d")
    assert policy.delay_before(1, 0.0) == MONTH
    assert policy.delay_before(1, 1.0) == MONTH / 2


def decide(policy: Retry, error: BaseException | ErrorInfo, attempts: int = 1, elapsed: float = 0.0) -> float | None:
    return policy.decide(attempts=attempts, error=error, elapsed=elapsed, random=0.0)


def test_max_attempts_counts_all_starts() -> None:
    policy = Retry(max_attempts=3, delay="1s")
    assert [decide(policy, ValueError(), attempts) for attempts in (1, 2, 3, 4)] == [1.0, 1.0, None, None]


def test_a_task_without_a_policy_runs_once() -> None:
    assert decide(NO_RETRY, ValueError()) is None
    assert decide(NO_RETRY, RetryAfter(1)) is None


@pytest.mark.parametrize(
    "error",
    [
        NonRetryable("no"),
        ExceptionGroup("tasks", [ValueError(), ExceptionGroup("inner", [NonRetryable("no")])]),
        SerializationError("result", "is NaN"),
        ErrorInfo("poisoned", "", is_retryable=False),
    ],
)
def test_a_final_error_is_given_up_whatever_the_policy_says(error: BaseException | ErrorInfo) -> None:
    assert decide(Retry(max_attempts=9, delay="1s", retry_if=lambda _: True), error) is None


def test_retry_after_sets_the_delay_without_jitter_and_without_asking_retry_if() -> None:
    policy = Retry(max_attempts=3, delay="1s", jitter=1.0, retry_if=lambda _: False)
    assert policy.decide(attempts=1, error=RetryAfter(90), elapsed=0.0, random=0.7) == 90.0
    assert decide(policy, RetryAfter(timedelta(minutes=2)), 2) == 120.0
    assert decide(policy, RetryAfter(90), 3) is None


@pytest.mark.parametrize(("asked", "given_delay"), [("5s", 5.0), ("1h30m", 5_400.0), ("250ms", 0.25)])
def test_retry_after_takes_a_length_as_everything_else_does(asked: str, given_delay: float) -> None:
    assert decide(Retry(), RetryAfter(asked)) == given_delay
    assert str(RetryAfter(asked)) == f"try again in {given_delay:g} s"


@pytest.mark.parametrize("asked", ["5", "soon", True, None, math.nan, 1e12])
def test_retry_after_refuses_what_is_no_length(asked: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"RetryAfter\.delay is "):
        RetryAfter(asked)


@pytest.mark.parametrize(("asked", "given_delay"), [(-5, 0.0), (10**9, MONTH)])
def test_retry_after_is_held_within_bounds(asked: float, given_delay: float) -> None:
    assert decide(Retry(), RetryAfter(asked)) == given_delay


def test_retry_if_is_asked_about_exceptions_and_not_about_stored_errors() -> None:
    policy = Retry(delay="1s", retry_if=lambda error: isinstance(error, OSError))
    assert decide(policy, TimeoutError()) == 1.0
    assert decide(policy, KeyError()) is None
    assert decide(policy, ErrorInfo("timed_out", "")) == 1.0


def test_max_duration_ends_retries_whose_attempt_would_start_at_or_after_it() -> None:
    policy = Retry(max_attempts=9, delay="1s", max_duration="2s")
    assert decide(policy, ValueError(), 1, elapsed=0.0) == 1.0
    assert decide(policy, ValueError(), 2, elapsed=1.0) is None
    assert decide(policy, RetryAfter(2), 1, elapsed=0.0) is None


def broken(_: Any) -> Any:
    raise RuntimeError("secret")


@pytest.mark.parametrize(
    "policy",
    [
        Retry(delay=broken),
        Retry(delay=lambda _: -1),
        Retry(delay=lambda _: "soon"),
        Retry(retry_if=broken),
    ],
)
def test_a_failing_function_of_the_policy_gives_up_and_is_logged_without_values(
    policy: Retry, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert decide(policy, ValueError()) is None
    assert "is not retried" in caplog.text
    assert "secret" not in caplog.text


def retry_of(**options: Any) -> Retry:
    """Make a policy of options that a type checker would refuse."""
    return Retry(**options)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Retry(max_attempts=0), "retry.max_attempts"),
        (lambda: Retry(max_attempts=-1), "retry.max_attempts"),
        (lambda: Retry(max_attempts=10**9), "retry.max_attempts"),
        (lambda: Retry(max_attempts=True), "retry.max_attempts"),
        (lambda: retry_of(max_attempts=2.0), "retry.max_attempts"),
        (lambda: Retry(jitter=-0.1), "retry.jitter"),
        (lambda: Retry(jitter=1.1), "retry.jitter"),
        (lambda: Retry(jitter=float("nan")), "retry.jitter"),
        (lambda: Retry(jitter=True), "retry.jitter"),
        (lambda: Retry(max_duration="-1s"), "retry.max_duration"),
        (lambda: Retry(delay="31d"), "retry.delay"),
        (lambda: Retry(delay=float("inf")), "retry.delay"),
        (lambda: Retry(delay=True), "retry.delay"),
        (lambda: retry_of(retry_if="no"), "retry.retry_if"),
        (lambda: constant("31d"), r"constant\(delay\)"),
        (lambda: linear(-1), r"linear\(step\)"),
        (lambda: linear("1s", max="31d"), r"linear\(max\)"),
        (lambda: exponential(float("nan")), r"exponential\(first\)"),
        (lambda: exponential("1s", factor=10**6), r"exponential\(factor\)"),
        (lambda: exponential("1s", factor=0.5), r"exponential\(factor\)"),
        (lambda: exponential("1s", factor=float("inf")), r"exponential\(factor\)"),
        (lambda: exponential("1s", max=timedelta.max), r"exponential\(max\)"),
    ],
)
def test_a_wrong_number_is_refused_with_its_field_and_limits(make: Callable[[], object], field: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{field} is .*; give "):
        make()


def test_a_policy_cannot_be_changed() -> None:
    policy: Any = Retry()
    with pytest.raises(AttributeError):
        policy.max_attempts = 5


@settings(deadline=None)
@given(
    st.integers(1, 1_000_000),
    strategies,
    st.floats(0, 1),
    st.one_of(st.none(), st.floats(0, 1e9)),
)
def test_a_policy_made_of_data_is_stored_and_read_back(
    attempts: int, strategy: Strategy, jitter: float, limit: Duration | None
) -> None:
    policy = Retry(attempts, strategy, jitter, limit)
    assert Retry.from_json(policy.to_json()) == policy


@pytest.mark.parametrize(
    ("policy", "field"), [(Retry(delay=lambda _: 1), "retry.delay"), (Retry(retry_if=bool), "retry.retry_if")]
)
def test_a_policy_with_a_function_refuses_to_be_stored_and_names_the_field(policy: Retry, field: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{field} is a function"):
        policy.to_json()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "[" * 100_000,
        '{"max_attempts":2,"delay":{"kind":"os.system"},"jitter":0,"max_duration":null}',
        '{"max_attempts":2,"delay":{"kind":"constant","delay":1,"x":2},"jitter":0,"max_duration":null}',
        '{"max_attempts":2,"delay":{"kind":["constant"]},"jitter":0,"max_duration":null}',
        '{"max_attempts":0,"delay":{"kind":"constant","delay":1},"jitter":0,"max_duration":null}',
        '{"max_attempts":2,"delay":{"kind":"constant","delay":NaN},"jitter":0,"max_duration":null}',
    ],
)
def test_a_stored_policy_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Retry.from_json(text)
