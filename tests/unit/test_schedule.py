"""Schedules: their arguments, their slots, and what becomes of late and missed ones."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.durations import seconds
from durable.errors import ConfigurationError
from durable.jobs.schedule import CatchUp, Due, Schedule, cron, every

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)  # a Monday
CATCH_UPS: tuple[CatchUp, ...] = ("skip", "one", "all")


def minutes(count: float) -> datetime:
    return START + timedelta(minutes=count)


def at(due: Due) -> datetime:
    assert due.delay is None
    assert due.at is not None
    assert due.at.tzinfo is UTC
    return due.at


def slots(schedule: Schedule, after: datetime, count: int) -> list[datetime]:
    """The slots of a job whose turns take no time."""
    found = [at(schedule.first(after))]
    while len(found) < count:
        found.append(at(schedule.next(found[-1], found[-1])))
    return found


def shown(expression: str, tz: str, after: str, count: int) -> list[str]:
    start = datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(tz))
    return [f"{slot.astimezone(ZoneInfo(tz)):%m-%d %H:%M:%S}" for slot in slots(cron(expression, tz), start, count)]


def runs_until(schedule: Schedule, slot: datetime, now: datetime, end: datetime) -> list[datetime]:
    """The slots of the turns that run, without taking time, from `now` up to `end`."""
    ran: list[datetime] = []
    while max(slot, now) <= end:
        now = max(slot, now)
        postponed = schedule.postponed(slot, now)
        if postponed is None:
            ran.append(slot)
        slot = at(schedule.next(slot, now) if postponed is None else postponed)
    return ran


# --- intervals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", ["30m", 1800, 1800.0, timedelta(minutes=30)])
def test_an_interval_is_a_duration_and_a_number_is_seconds(interval: Any) -> None:
    assert every(interval) == every("30m")
    assert every(interval).first(START) == Due(delay=1800.0)


@pytest.mark.parametrize(
    "interval",
    [0, -1, 0.0009, "30", "", None, True, START, float("nan"), float("inf"), "3651d", START.timestamp(), 1_767_225_600],
)
def test_what_is_no_interval_is_refused_by_name(interval: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"interval is .* from 1ms to 3650d"):
        every(interval)


def test_the_shortest_and_the_longest_interval_are_accepted() -> None:
    assert every("1ms").first(START) == Due(delay=0.001)
    assert every("3650d").first(START) == Due(delay=3650 * 86_400.0)


@pytest.mark.parametrize("anchor", ["scheduled", "", None, 1])
def test_an_unknown_anchor_is_refused(anchor: Any) -> None:
    with pytest.raises(ConfigurationError, match="anchor"):
        every("1s", anchor=anchor)


@pytest.mark.parametrize("catch_up", ["some", "", 1, ("all", 3)])
def test_an_unknown_catch_up_is_refused(catch_up: Any) -> None:
    with pytest.raises(ConfigurationError, match="catch_up"):
        every("1s", anchor="schedule", catch_up=catch_up)
    with pytest.raises(ConfigurationError, match="catch_up"):
        cron("@daily", catch_up=catch_up)


@pytest.mark.parametrize("catch_up", CATCH_UPS)
def test_catch_up_means_nothing_for_an_interval_from_completion(catch_up: CatchUp) -> None:
    with pytest.raises(ConfigurationError, match=r"catch_up.*anchor"):
        every("1s", catch_up=catch_up)


def test_missed_slots_are_skipped_unless_said_otherwise() -> None:
    assert every("1s", anchor="schedule") == every("1s", anchor="schedule", catch_up="skip")
    assert cron("@daily") == cron("@daily", catch_up="skip")


def test_a_turn_claimed_late_moves_the_next_one_only_from_completion() -> None:
    slot, claimed = minutes(30), minutes(40)
    completion, scheduled = every("30m"), every("30m", anchor="schedule")

    assert (completion.postponed(slot, claimed), scheduled.postponed(slot, claimed)) == (None, None)
    assert completion.next(slot, claimed) == Due(delay=1800.0)
    assert scheduled.next(slot, claimed) == Due(at=minutes(60))


@pytest.mark.parametrize("catch_up", CATCH_UPS)
def test_without_a_slot_the_grid_begins_now(catch_up: CatchUp) -> None:
    schedule = every("30m", anchor="schedule", catch_up=catch_up)

    assert schedule.first(minutes(7)) == Due(at=minutes(37))
    assert schedule.next(None, minutes(7)) == Due(at=minutes(37))
    assert schedule.postponed(None, minutes(7)) is None


def test_the_next_slot_after_a_deploy_is_one_new_interval_from_the_last() -> None:
    assert every("10m", anchor="schedule").next(minutes(30), minutes(31)) == Due(at=minutes(40))
    assert every("2h", anchor="schedule").next(minutes(30), minutes(31)) == Due(at=minutes(150))
    assert every("10m").next(minutes(30), minutes(31)) == Due(delay=600.0)


@given(
    start=st.floats(-1e9, 4e9).map(lambda stamp: datetime.fromtimestamp(stamp, UTC)),
    interval=st.timedeltas(timedelta(milliseconds=1), timedelta(days=3650)),
    late=st.lists(st.floats(0.0, 5.0), max_size=8),
    catch_up=st.sampled_from(CATCH_UPS),
)
def test_a_grid_never_drifts(start: datetime, interval: timedelta, late: list[float], catch_up: CatchUp) -> None:
    schedule = every(interval, anchor="schedule", catch_up=catch_up)
    slot = start
    for share in late:
        now = slot + interval * share
        following = at(schedule.next(slot, now))
        assert (following - start) % interval == timedelta(0)
        assert following == slot + interval if catch_up == "all" else now < following <= now + interval
        assert following > slot
        slot = following


# --- late and missed slots -------------------------------------------------------------------------------------------

HALF_HOURS = {
    catch_up: [every("30m", anchor="schedule", catch_up=catch_up), cron("*/30 * * * *", catch_up=catch_up)]
    for catch_up in CATCH_UPS
}


@pytest.mark.parametrize(
    ("catch_up", "missed"), [("skip", []), ("one", [30]), ("all", [30, 60, 90, 120, 150])], ids=CATCH_UPS
)
@pytest.mark.parametrize("kind", [0, 1], ids=["every", "cron"])
def test_of_five_missed_slots_none_or_one_or_all_are_run(catch_up: CatchUp, missed: list[int], kind: int) -> None:
    schedule = HALF_HOURS[catch_up][kind]

    ran = runs_until(schedule, slot=minutes(30), now=minutes(155), end=minutes(240))

    assert ran == [minutes(count) for count in [*missed, 180, 210, 240]]


@pytest.mark.parametrize("kind", [0, 1], ids=["every", "cron"])
def test_a_slot_is_missed_from_the_moment_its_successor_comes(kind: int) -> None:
    skip = HALF_HOURS["skip"][kind]

    assert skip.postponed(minutes(30), minutes(30)) is None
    assert skip.postponed(minutes(30), minutes(60) - timedelta(microseconds=1)) is None
    assert skip.postponed(minutes(30), minutes(60)) == Due(at=minutes(90))
    for catch_up in ("one", "all"):
        assert HALF_HOURS[catch_up][kind].postponed(minutes(30), minutes(600)) is None


@pytest.mark.parametrize(("catch_up", "expected"), [("skip", 120), ("one", 120), ("all", 60)])
@pytest.mark.parametrize("kind", [0, 1], ids=["every", "cron"])
def test_a_turn_that_outlasts_slots_is_followed_by_policy(catch_up: CatchUp, expected: int, kind: int) -> None:
    assert HALF_HOURS[catch_up][kind].next(minutes(30), minutes(100)) == Due(at=minutes(expected))


@pytest.mark.parametrize(("catch_up", "expected"), [("skip", 90), ("one", 90), ("all", 60)])
@pytest.mark.parametrize("kind", [0, 1], ids=["every", "cron"])
def test_a_turn_that_ends_on_a_slot_has_used_it_up(catch_up: CatchUp, expected: int, kind: int) -> None:
    assert HALF_HOURS[catch_up][kind].next(minutes(30), minutes(60)) == Due(at=minutes(expected))


@pytest.mark.parametrize("catch_up", CATCH_UPS)
@pytest.mark.parametrize("kind", [0, 1], ids=["every", "cron"])
def test_a_turn_that_ends_before_its_own_slot_does_not_meet_it_again(catch_up: CatchUp, kind: int) -> None:
    assert HALF_HOURS[catch_up][kind].next(minutes(30), minutes(29)) == Due(at=minutes(60))


# --- cron ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("* * * * *", ["03-02 09:01:00", "03-02 09:02:00"]),
        ("*/5 * * * *", ["03-02 09:05:00", "03-02 09:10:00"]),
        ("10/20 * * * *", ["03-02 09:10:00", "03-02 09:30:00"]),
        ("0 9 * * *", ["03-03 09:00:00", "03-04 09:00:00"]),
        ("0 9-17/8 * * *", ["03-02 17:00:00", "03-03 09:00:00"]),
        ("15,45 8 * * *", ["03-03 08:15:00", "03-03 08:45:00"]),
        ("30 0 9 * * *", ["03-02 09:00:30", "03-03 09:00:30"]),
        ("*/20 * * * * *", ["03-02 09:00:20", "03-02 09:00:40"]),
        ("  0   9 * *  mon ", ["03-09 09:00:00", "03-16 09:00:00"]),
        ("0 0 1 apr,SEP *", ["04-01 00:00:00", "09-01 00:00:00"]),
        ("0 0 * * SAT-7", ["03-07 00:00:00", "03-08 00:00:00"]),
        ("0 0 * * 7", ["03-08 00:00:00", "03-15 00:00:00"]),
        ("0 0 * * 0", ["03-08 00:00:00", "03-15 00:00:00"]),
        ("0 0 5 * FRI", ["03-05 00:00:00", "03-06 00:00:00"]),
        ("0 0 */2 * FRI", ["03-13 00:00:00", "03-27 00:00:00"]),
        ("0 0 L * *", ["03-31 00:00:00", "04-30 00:00:00"]),
        ("0 0 LW * *", ["03-31 00:00:00", "04-30 00:00:00"]),
        ("0 0 * * 5L", ["03-27 00:00:00", "04-24 00:00:00"]),
        ("0 0 * * MON#2", ["03-09 00:00:00", "04-13 00:00:00"]),
        ("0 0 29 2 *", ["02-29 00:00:00", "02-29 00:00:00"]),
        ("@hourly", ["03-02 10:00:00", "03-02 11:00:00"]),
        ("@daily", ["03-03 00:00:00", "03-04 00:00:00"]),
        ("@midnight", ["03-03 00:00:00", "03-04 00:00:00"]),
        ("@weekly", ["03-08 00:00:00", "03-15 00:00:00"]),
        ("@monthly", ["04-01 00:00:00", "05-01 00:00:00"]),
        (" @Yearly", ["01-01 00:00:00", "01-01 00:00:00"]),
        ("@annually", ["01-01 00:00:00", "01-01 00:00:00"]),
    ],
)
def test_the_slots_of_an_expression(expression: str, expected: list[str]) -> None:
    assert shown(expression, "UTC", "2026-03-02T09:00", 2) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "* * * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * * 8",
        "60 * * * * *",
        "*/0 * * * *",
        "5-1 * * * *",
        "0 0 * * FRI-SUN",
        "0 0 * * MONDAY",
        "a b c d e",
        "@reboot",
        "@every 5m",
        "-1 * * * *",
        "1,,2 * * * *",
        "\u0661 * * * *",
        "0 0 30 2 *",
        "0 0 31 4,6,9,11 *",
        "0 0 */30 4 MON#5",
        f"{'9' * 5000} * * * *",
        None,
        5,
        b"* * * * *",
    ],
)
def test_what_is_no_expression_or_no_date_is_refused_when_defined(expression: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^expr is "):
        cron(expression)


@given(st.lists(st.text("0123456789*/,-#LWMONJA", max_size=8), min_size=5, max_size=6).map(" ".join))
def test_any_expression_is_refused_when_defined_or_has_slots(expression: str) -> None:
    try:
        schedule = cron(expression)
    except ConfigurationError:
        return
    first, second = slots(schedule, START, 2)
    assert START < first < second


@pytest.mark.parametrize(
    "tz",
    ["", "Mars/Olympus", "America", "../UTC", "/etc/localtime", "localtime", "UTC\0", "Zürich", None, 1, UTC],
)
def test_an_unknown_time_zone_is_refused_when_defined(tz: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^tz is "):
        cron("@daily", tz)


def test_a_zone_may_be_given_by_name_or_as_an_object() -> None:
    assert cron("@daily", ZoneInfo.no_cache("Asia/Tokyo")) == cron("@daily", "Asia/Tokyo") != cron("@daily")
    assert cron("@daily", "Asia/Tokyo").first(START) == Due(at=datetime(2026, 3, 2, 15, tzinfo=UTC))


def test_zones_are_known_where_the_operating_system_has_none() -> None:
    code = "import durable, zoneinfo; assert zoneinfo.TZPATH == (); durable.cron('@daily', 'Europe/Berlin')"

    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONTZPATH": ""}, check=True)


def test_points_of_time_may_be_in_any_zone_and_slots_are_in_utc() -> None:
    now = START.astimezone(ZoneInfo("Asia/Tokyo"))

    assert at(every("1h", anchor="schedule").next(now, now)) == minutes(60)
    assert at(cron("@hourly").next(now, now)) == minutes(60)


@pytest.mark.parametrize("schedule", [every("1h"), every("1h", anchor="schedule"), cron("@daily")], ids=repr)
def test_a_point_of_time_without_a_zone_is_refused(schedule: Schedule) -> None:
    naive = START.replace(tzinfo=None)

    with pytest.raises(ConfigurationError, match="now is"):
        schedule.first(naive)
    with pytest.raises(ConfigurationError, match="now is"):
        schedule.next(None, naive)
    with pytest.raises(ConfigurationError, match="now is"):
        schedule.postponed(START, naive)
    with pytest.raises(ConfigurationError, match="slot is"):
        schedule.next(naive, START)
    with pytest.raises(ConfigurationError, match="slot is"):
        schedule.postponed(naive, START)


# --- as values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "code", "words"),
    [
        (every(5400), "every('1h30m')", "1h30m after each run"),
        (
            every("1.5ms", anchor="schedule"),
            "every('1.5ms', anchor='schedule', catch_up='skip')",
            "every 1.5ms, missed runs are skipped",
        ),
        (
            every("8d2s", anchor="schedule", catch_up="one"),
            "every('8d2s', anchor='schedule', catch_up='one')",
            "every 8d2s, missed runs are made up for by one",
        ),
        (
            cron(" 0  2 * * * ", "Europe/Berlin", catch_up="all"),
            "cron('0 2 * * *', 'Europe/Berlin', catch_up='all')",
            'cron "0 2 * * *" in Europe/Berlin, missed runs are all made up for',
        ),
    ],
)
def test_a_schedule_is_shown_as_code_and_in_words(schedule: Schedule, code: str, words: str) -> None:
    assert repr(schedule) == code
    assert schedule.describe() == words
    again = eval(code, {"every": every, "cron": cron})
    assert again == schedule
    assert hash(again) == hash(schedule)


def test_schedules_differ_by_each_argument() -> None:
    different = {
        every("1h"),
        every("2h"),
        *(every("1h", anchor="schedule", catch_up=catch_up) for catch_up in CATCH_UPS),
        *(cron("@hourly", catch_up=catch_up) for catch_up in CATCH_UPS),
        cron("@daily"),
        cron("@hourly", "Asia/Tokyo"),
    }

    assert len(different) == 10


@given(st.timedeltas(timedelta(milliseconds=1), timedelta(days=3650)))
def test_an_interval_is_shown_without_loss(interval: timedelta) -> None:
    words = every(interval).describe().removesuffix(" after each run")

    assert timedelta(seconds=seconds(words, "words")) == interval


def test_a_schedule_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        every("1h").length = timedelta(0)  # type: ignore[attr-defined]
    with pytest.raises(FrozenInstanceError):
        cron("@daily").catch_up = "all"  # type: ignore[attr-defined]
    with pytest.raises(FrozenInstanceError):
        cron("@daily").slots.tz = "Asia/Tokyo"  # type: ignore[attr-defined]
