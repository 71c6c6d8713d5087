"""Durations and points of time: what is accepted, and that everything else is refused with its field and bounds."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable.durations import CENTURY_SECONDS, aware, seconds
from durable.errors import ConfigurationError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("250ms", 0.25),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("2d", 172_800.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("1d2h3m4s5ms", 93_784.005),
        ("0s", 0.0),
        (0, 0.0),
        (30, 30.0),
        (0.5, 0.5),
        (timedelta(minutes=2), 120.0),
    ],
)
def test_seconds_reads_every_form(value: Any, expected: float) -> None:
    assert seconds(value, "timeout") == pytest.approx(expected)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "30",
        "s",
        "5 m",
        "-5s",
        "1m1h",
        "1s1s",
        "1e3s",
        ".5s",
        "٣s",
        "5m\n",
        "9" * 99 + "d",
        "1s" * 1000,
        "nan",
        "\0",
        True,
        False,
        None,
        -1,
        -0.001,
        float("nan"),
        float("inf"),
        float("-inf"),
        10**400,
        pytest.param(-(10**5000), id="giant"),
        timedelta(seconds=-1),
        timedelta.max,
        Decimal(1),
        b"5s",
        [],
    ],
)
def test_seconds_refuses_what_is_no_length_and_names_field_and_bounds(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^timeout is .*from 0s to 36525d$"):
        seconds(value, "timeout")


def test_seconds_includes_both_bounds() -> None:
    assert seconds("1s", "lease", minimum=1.0, maximum=60.0) == 1.0
    assert seconds("1m", "lease", minimum=1.0, maximum=60.0) == 60.0
    with pytest.raises(ConfigurationError, match=r"lease is '999ms'.*from 1s to 1m$"):
        seconds("999ms", "lease", minimum=1.0, maximum=60.0)
    with pytest.raises(ConfigurationError, match="lease is '61s'"):
        seconds("61s", "lease", minimum=1.0, maximum=60.0)


def test_a_refused_duration_is_shown_short_and_without_control_characters() -> None:
    with pytest.raises(ConfigurationError) as caught:
        seconds("\x1b[31m" + "x" * 10_000, "timeout")
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@settings(deadline=None)
@given(st.floats(min_value=0.0, max_value=CENTURY_SECONDS))
def test_seconds_gives_numbers_in_bounds_unchanged(value: float) -> None:
    assert seconds(value, "delay") == value


@settings(deadline=None)
@given(st.text())
def test_seconds_answers_every_text_with_a_length_or_a_configuration_error(text: str) -> None:
    with suppress(ConfigurationError):
        assert 0.0 <= seconds(text, "delay") <= CENTURY_SECONDS


def test_aware_gives_utc() -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    given_at = datetime(2031, 1, 1, 3, 0, tzinfo=east)
    result = aware(given_at, "run_at")
    assert result == given_at
    assert result.tzinfo is UTC


def test_aware_accepts_the_past() -> None:
    past = datetime(1, 1, 2, tzinfo=UTC)
    assert aware(past, "run_at") == past


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (datetime(2031, 1, 1), "has no time zone"),  # noqa: DTZ001 - what is refused
        (datetime(9999, 1, 1, tzinfo=UTC), "100 years"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))), "100 years"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=12))), "before the year 1"),
        (datetime.now(UTC) + timedelta(days=36_526), "100 years"),
        ("2031-01-01T00:00:00Z", "give a datetime"),
        (datetime.now(UTC).date(), "give a datetime"),
        (1_900_000_000, "give a datetime"),
        (None, "give a datetime"),
    ],
)
def test_aware_refuses_and_names_the_field(value: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^run_at is .*{why}"):
        aware(value, "run_at")
