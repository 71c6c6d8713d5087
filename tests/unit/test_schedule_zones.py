"""Cron where clocks change: a table made by hand, and a minute-by-minute walk through twelve zones as the oracle."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable.jobs.schedule import Schedule, cron

ZONES: Final = {
    # The middle of the four years. Samoa left out 30 December 2011 and changed its clocks until 2021.
    "Africa/Cairo": date(2024, 7, 1),  # changes at midnight, since 2023
    "Africa/Casablanca": date(2024, 7, 1),  # goes back for Ramadan, four changes a year
    "America/Havana": date(2024, 7, 1),  # repeats the hour before one o'clock
    "America/New_York": date(2024, 7, 1),
    "America/Santiago": date(2024, 7, 1),  # skips midnight, repeats the last hour of a day
    "America/St_Johns": date(2024, 7, 1),
    "Antarctica/Troll": date(2024, 7, 1),  # by two hours
    "Australia/Lord_Howe": date(2024, 7, 1),  # by half an hour
    "Europe/Berlin": date(2024, 7, 1),
    "Europe/Dublin": date(2024, 7, 1),  # in its data the winter is the exception
    "Pacific/Apia": date(2011, 12, 30),
    "Pacific/Chatham": date(2024, 7, 1),  # at 02:45
}
YEARS: Final = timedelta(days=2 * 365)
MINUTE: Final = timedelta(minutes=1)
STEP: Final = timedelta(hours=4)
AROUND: Final = timedelta(hours=28)

Matches = Callable[[datetime], bool]

FIXED: Final[dict[str, Matches]] = {
    "0 0 * * *": lambda local: (local.hour, local.minute) == (0, 0),
    "59 23 * * *": lambda local: (local.hour, local.minute) == (23, 59),
    "15,45 1 * * *": lambda local: local.hour == 1 and local.minute in (15, 45),
    "0,30 0-3 * * *": lambda local: local.hour <= 3 and local.minute in (0, 30),
    "0 50 1-2 * * *": lambda local: local.hour in (1, 2) and local.minute == 50,
    "20 0-23 * * 0-5": lambda local: local.minute == 20 and local.isoweekday() != 6,
}
SHOWN: Final[dict[str, Matches]] = {
    "*/5 * * * *": lambda local: local.minute % 5 == 0,
    "45 * * * *": lambda local: local.minute == 45,
    "0 20 * * * *": lambda local: local.minute == 20,
    "*/15 2 * * *": lambda local: local.hour == 2 and local.minute % 15 == 0,
    "30 */2 * * *": lambda local: local.hour % 2 == 0 and local.minute == 30,
    "0 * 0-1 * * SUN": lambda local: local.hour <= 1 and local.isoweekday() == 7,
}


def local_time(moment: datetime, zone: str) -> datetime:
    return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def slots(schedule: Schedule, after: datetime, end: datetime) -> list[datetime]:
    """The slots after one moment, up to another and with it."""
    found: list[datetime] = []
    due = schedule.first(after)
    while due.at is not None and due.at <= end:
        found.append(due.at)
        due = schedule.next(due.at, due.at)
    return found


def span(zone: str) -> tuple[datetime, datetime]:
    middle = datetime.combine(ZONES[zone], datetime.min.time(), UTC)
    return middle - YEARS, middle + YEARS


@cache
def windows(zone: str) -> list[tuple[datetime, datetime]]:
    """The days around each change of the clock in four years."""
    moment, end = span(zone)
    found: list[tuple[datetime, datetime]] = []
    while moment < end:
        if local_time(moment + STEP, zone) - local_time(moment, zone) != STEP:
            found.append((moment - AROUND, moment + AROUND))
        moment += STEP
    return found


@cache
def walk(zone: str, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Each minute after the start, up to the end, and what the clock shows then."""
    count = (end - start) // MINUTE
    return [(moment, local_time(moment, zone)) for moment in (start + step * MINUTE for step in range(1, count + 1))]


@cache
def arrivals(zone: str, start: datetime, end: datetime) -> list[tuple[datetime, list[datetime]]]:
    """Each minute and the times that come with it: those by which the clock gets beyond the furthest it has shown."""
    found: list[tuple[datetime, list[datetime]]] = []
    furthest = local_time(start, zone)
    for moment, local in walk(zone, start, end):
        found.append((moment, [furthest + step * MINUTE for step in range(1, (local - furthest) // MINUTE + 1)]))
        furthest = max(furthest, local)
    return found


def fixed_by_hand(zone: str, start: datetime, end: datetime, matches: Matches) -> list[datetime]:
    return [moment for moment, come in arrivals(zone, start, end) if any(map(matches, come))]


def shown_by_hand(zone: str, start: datetime, end: datetime, matches: Matches) -> list[datetime]:
    return [moment for moment, local in walk(zone, start, end) if matches(local)]


def test_the_zones_change_their_clocks_as_often_as_expected() -> None:
    assert {zone: len(windows(zone)) for zone in ZONES} == {
        "Africa/Cairo": 7,
        **dict.fromkeys(ZONES.keys() - {"Africa/Cairo"}, 8),
    }


@pytest.mark.parametrize("zone", ZONES)
def test_fixed_times_run_once_when_the_clock_first_shows_or_passes_them(zone: str) -> None:
    for start, end in windows(zone):
        for expression, matches in FIXED.items():
            expected = fixed_by_hand(zone, start, end, matches)
            assert slots(cron(expression, zone), start, end) == expected, (expression, start)


@pytest.mark.parametrize("zone", ZONES)
def test_other_expressions_run_whenever_the_clock_shows_them(zone: str) -> None:
    for start, end in windows(zone):
        for expression, matches in SHOWN.items():
            expected = shown_by_hand(zone, start, end, matches)
            assert slots(cron(expression, zone), start, end) == expected, (expression, start)


@pytest.mark.parametrize("zone", ZONES)
def test_from_within_a_change_the_next_slot_is_the_same_as_from_before(zone: str) -> None:
    expressions = ("30 0-3 * * *", "*/30 0-3 * * *")
    for start, end in windows(zone):
        for expression in expressions:
            schedule = cron(expression, zone)
            all_slots = slots(schedule, start, end + AROUND)
            moment = start + timedelta(seconds=0.5)
            while moment < end:
                assert schedule.first(moment).at == next(slot for slot in all_slots if slot > moment)
                moment += 13 * MINUTE


@pytest.mark.parametrize("zone", ZONES)
def test_a_daily_time_runs_once_for_each_date_of_four_years(zone: str) -> None:
    start, end = span(zone)
    first_date, last_date = (local_time(moment, zone).date() for moment in (start, end))

    found = slots(cron("30 2 * * *", zone), start, end)

    # At either end, the time of that day may lie outside.
    assert abs(len(found) - (last_date - first_date).days) <= 1
    assert max(later - earlier for earlier, later in pairwise(found)) <= timedelta(hours=26)


@pytest.mark.parametrize(
    ("zone", "expression", "after", "expected"),
    [
        # a gap of an hour: 02:00 becomes 03:00
        ("America/New_York", "30 2 * * *", "2026-03-07 12:00", ["03-08 03:00 EDT", "03-09 02:30 EDT"]),
        ("America/New_York", "0 30 2 * * *", "2026-03-07 12:00", ["03-08 03:00 EDT", "03-09 02:30 EDT"]),
        ("America/New_York", "0,30 2,3 * * *", "2026-03-07 12:00", ["03-08 03:00 EDT", "03-08 03:30 EDT"]),
        ("America/New_York", "0 1-3 * * *", "2026-03-08 00:30", ["03-08 01:00 EST", "03-08 03:00 EDT"]),
        ("America/New_York", "30 * * * *", "2026-03-08 01:00", ["03-08 01:30 EST", "03-08 03:30 EDT"]),
        ("America/New_York", "*/30 2 * * *", "2026-03-07 12:00", ["03-09 02:00 EDT", "03-09 02:30 EDT"]),
        # an hour twice: 02:00 becomes 01:00
        ("America/New_York", "30 1 * * *", "2026-10-31 12:00", ["11-01 01:30 EDT", "11-02 01:30 EST"]),
        ("America/New_York", "0 30 1 * * *", "2026-10-31 12:00", ["11-01 01:30 EDT", "11-02 01:30 EST"]),
        ("America/New_York", "0 1-3 * * *", "2026-11-01 00:30", ["11-01 01:00 EDT", "11-01 02:00 EST"]),
        ("America/New_York", "30 * * * *", "2026-11-01 01:00", ["11-01 01:30 EDT", "11-01 01:30 EST"]),
        ("America/New_York", "*/30 1 * * *", "2026-11-01 01:10", ["11-01 01:30 EDT", "11-01 01:00 EST"]),
        # the same, once a year: between two first showings the clock changes there and back
        ("America/New_York", "*/30 1 1 11 *", "2026-11-01 01:45", ["11-01 01:00 EST", "11-01 01:30 EST"]),
        # half an hour, at 02:00
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03 12:00", ["10-04 02:30 +11", "10-05 02:15 +11"]),
        ("Australia/Lord_Howe", "45 * * * *", "2026-04-05 01:00", ["04-05 01:45 +11", "04-05 01:45 +1030"]),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-05 01:00", ["04-05 01:45 +11", "04-06 01:45 +1030"]),
        # no midnight
        ("Africa/Cairo", "0 0 * * *", "2025-04-24 12:00", ["04-25 01:00 EEST", "04-26 00:00 EEST"]),
        ("Africa/Cairo", "*/30 * * * *", "2025-04-24 23:30", ["04-25 01:00 EEST", "04-25 01:30 EEST"]),
        # no 30 December
        ("Pacific/Apia", "0 12 * * *", "2011-12-28 12:00", ["12-29 12:00 -10", "12-31 00:00 +14", "12-31 12:00 +14"]),
        ("Pacific/Apia", "0 */12 * * *", "2011-12-29 00:00", ["12-29 12:00 -10", "12-31 00:00 +14"]),
        # two hours, at 01:00 UTC
        ("Antarctica/Troll", "30 1,2 * * *", "2026-03-29 00:00", ["03-29 03:00 +02", "03-30 01:30 +02"]),
        ("Antarctica/Troll", "30 1,2 * * *", "2026-10-25 00:00", ["10-25 01:30 +02", "10-25 02:30 +02"]),
    ],
)
def test_the_slots_around_a_change(zone: str, expression: str, after: str, expected: list[str]) -> None:
    start = datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(zone))

    found = slots(cron(expression, zone), start, start + 3 * AROUND)[: len(expected)]

    assert [f"{slot.astimezone(ZoneInfo(zone)):%m-%d %H:%M %Z}" for slot in found] == expected


def test_a_repeated_time_that_has_run_does_not_run_again_when_asked_inside_the_second_hour() -> None:
    inside = datetime(2026, 11, 1, 6, 15, tzinfo=UTC)  # 01:15 EST
    tomorrow = datetime(2026, 11, 2, 6, 30, tzinfo=UTC)

    assert cron("30 1 * * *", "America/New_York").first(inside).at == tomorrow


EXPRESSIONS: Final = st.tuples(
    st.sampled_from(["", "0 ", "*/20 ", "15,45 "]),
    st.sampled_from(["*", "*/7", "0", "30", "15-45/10", "59"]),
    st.sampled_from(["*", "*/3", "0", "1-2", "2,3", "23"]),
    st.sampled_from(["* * *", "* * SUN", "L * *", "1 */2 *", "13 * FRI", "29 2 *"]),
).map(lambda parts: f"{parts[0]}{parts[1]} {parts[2]} {parts[3]}")
MOMENTS: Final = st.floats(1.1e9, 2.1e9).map(lambda stamp: datetime.fromtimestamp(stamp, UTC))  # 2004 to 2036


@settings(max_examples=300)
@given(EXPRESSIONS, st.sampled_from(sorted(ZONES)), MOMENTS, st.timedeltas(timedelta(0), timedelta(days=40)))
def test_slots_come_strictly_after_and_never_go_back(
    expression: str, zone: str, moment: datetime, later: timedelta
) -> None:
    schedule = cron(expression, zone)
    first, second = schedule.first(moment).at, schedule.first(moment + later).at

    assert first is not None
    assert second is not None
    assert moment < first <= second
    assert second == first or first <= moment + later
    assert first.microsecond == 0
    before = first - timedelta(microseconds=1)
    assert schedule.next(before, before).at == first


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(ZONES)), MOMENTS, st.integers(0, 59), st.integers(0, 23), st.sampled_from(["", "0 ", "30 "])
)
def test_no_date_has_two_runs_of_a_fixed_time(zone: str, moment: datetime, minute: int, hour: int, second: str) -> None:
    found = slots(cron(f"{second}{minute} {hour} * * *", zone), moment, moment + timedelta(days=20))

    dates = [local_time(slot, zone).date() for slot in found]
    if date(2011, 12, 30) not in (day - timedelta(days=1) for day in dates):  # its run falls on the 31st
        assert len(set(dates)) == len(dates)
