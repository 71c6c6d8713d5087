"""When a continuous job runs next: `every()` and `cron()` as values. Pure: `now` is given, no clock is read.

A slot is the nominal time of a turn; a turn may start later, and one that was triggered by hand has none. The runner
asks three questions, whichever schedule it has: when is the first turn, is a turn that was claimed late still to run,
and when is the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple, Protocol, get_args
from zoneinfo import ZoneInfo

from durable.checks import shown
from durable.durations import Duration, seconds
from durable.errors import ConfigurationError
from durable.jobs.cron_slots import CronSlots, checked_expression, checked_zone

__all__ = ["Anchor", "CatchUp", "Due", "Schedule", "cron", "every"]

Anchor = Literal["completion", "schedule"]
"""What an interval counts from: the end of the turn before, or its slot."""

CatchUp = Literal["skip", "one", "all"]
"""How many of the slots that passed unused are run afterwards."""

SHORTEST_INTERVAL_SECONDS: Final = 0.001
# Also shorter than any recent point of time read as seconds since 1970, so that one given by mistake is refused.
LONGEST_INTERVAL_SECONDS: Final = 3_650 * 86_400.0

_MICROSECOND: Final = timedelta(microseconds=1)
_UNITS: Final = (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000))
_IN_WORDS: Final[dict[CatchUp, str]] = {
    "skip": "missed runs are skipped",
    "one": "missed runs are made up for by one",
    "all": "missed runs are all made up for",
}


class Due(NamedTuple):
    """When a turn is due; exactly one of the two is set."""

    delay: float | None = None
    """Seconds after the commit that says so; the turn has no slot."""
    at: datetime | None = None
    """The slot, in UTC. May be past: then the turn is due at once."""


class Schedule(Protocol):
    """When a continuous job runs; made by `every()` and `cron()`, immutable, and equal to one made alike.

    Every `slot` and `now` is a datetime with a time zone; ConfigurationError is raised for others.
    """

    def first(self, now: datetime) -> Due:
        """Return when the first turn is due for a job that is started at `now` and does not run immediately."""
        ...

    def postponed(self, slot: datetime | None, now: datetime) -> Due | None:
        """Return None if a turn claimed at `now` is to run, and when it is due instead if its slot was missed."""
        ...

    def next(self, slot: datetime | None, now: datetime) -> Due:
        """Return when the next turn is due after one that ended at `now`; `slot` is None if that one had none."""
        ...

    def describe(self) -> str:
        """Return the schedule in words, for people."""
        ...


def every(interval: Duration, *, anchor: Anchor = "completion", catch_up: CatchUp | None = None) -> Schedule:
    """Run at an interval of 1 ms to 3,650 days.

    Counted from the end of each turn, or with anchor="schedule" from slot to slot, which keeps the pace however long
    turns take. Then `catch_up` says what becomes of missed slots: "skip" if left out. Raises ConfigurationError.
    """
    if anchor not in get_args(Anchor):
        raise ConfigurationError(f'anchor is {shown(anchor)}; give "completion" or "schedule"')
    length = seconds(interval, "interval", minimum=SHORTEST_INTERVAL_SECONDS, maximum=LONGEST_INTERVAL_SECONDS)
    if anchor == "schedule":
        return OnSlots(IntervalSlots(timedelta(seconds=length)), _checked("skip" if catch_up is None else catch_up))
    if catch_up is not None:
        raise ConfigurationError(
            f'catch_up is {shown(catch_up)}, but anchor is "completion", which misses nothing; '
            'leave catch_up out, or give anchor="schedule"'
        )
    return AfterCompletion(timedelta(seconds=length))


def cron(expr: str, tz: str | ZoneInfo = "UTC", *, catch_up: CatchUp = "skip") -> Schedule:
    """Run when the clock in a time zone shows what a cron expression says; docs/schedules.md has the rules.

    Five fields, or six with the second first, or a macro such as "@daily". Raises ConfigurationError for a bad
    expression, one that names no existing date, and a time zone unknown here.
    """
    zone = checked_zone(tz)
    return OnSlots(CronSlots(checked_expression(expr), zone.key, zone), _checked(catch_up))


@dataclass(frozen=True, slots=True)
class IntervalSlots:
    """Slots at equal distances, through whichever was used last; without one, from the moment asked about."""

    length: timedelta

    def after(self, moment: datetime, slot: datetime | None) -> datetime:
        if slot is None:
            return moment + self.length
        return slot + max(1, (moment - slot) // self.length + 1) * self.length

    def describe(self) -> str:
        return f"every {_words(self.length)}"


@dataclass(frozen=True, slots=True, repr=False)
class OnSlots:
    """A schedule of slots; made by `cron()` and `every(anchor="schedule")`."""

    slots: IntervalSlots | CronSlots
    catch_up: CatchUp

    def first(self, now: datetime) -> Due:
        return self.next(None, now)

    def postponed(self, slot: datetime | None, now: datetime) -> Due | None:
        slot, now = _in_utc(slot, now)
        if slot is None or self.catch_up != "skip" or now < self.slots.after(slot, slot):
            return None
        return Due(at=self.slots.after(now, slot))

    def next(self, slot: datetime | None, now: datetime) -> Due:
        slot, now = _in_utc(slot, now)
        after = slot if self.catch_up == "all" and slot is not None else now
        return Due(at=self.slots.after(after, slot))

    def describe(self) -> str:
        return f"{self.slots.describe()}, {_IN_WORDS[self.catch_up]}"

    def __repr__(self) -> str:
        match self.slots:
            case IntervalSlots(length):
                return f"every({_words(length)!r}, anchor='schedule', catch_up={self.catch_up!r})"
            case CronSlots(expression, tz):
                return f"cron({expression!r}, {tz!r}, catch_up={self.catch_up!r})"


@dataclass(frozen=True, slots=True, repr=False)
class AfterCompletion:
    """A schedule that waits after each turn; made by `every()`."""

    length: timedelta

    def first(self, now: datetime) -> Due:
        return self.next(None, now)

    def postponed(self, slot: datetime | None, now: datetime) -> Due | None:
        _in_utc(slot, now)
        return None

    def next(self, slot: datetime | None, now: datetime) -> Due:
        _in_utc(slot, now)
        return Due(delay=self.length.total_seconds())

    def describe(self) -> str:
        return f"{_words(self.length)} after each run"

    def __repr__(self) -> str:
        return f"every({_words(self.length)!r})"


def _checked(catch_up: CatchUp) -> CatchUp:
    if catch_up not in get_args(CatchUp):
        raise ConfigurationError(f'catch_up is {shown(catch_up)}; give "skip", "one" or "all"')
    return catch_up


def _in_utc(slot: datetime | None, now: datetime) -> tuple[datetime | None, datetime]:
    return None if slot is None else _utc(slot, "slot"), _utc(now, "now")


def _utc(value: datetime, field: str) -> datetime:
    if value.utcoffset() is None:
        raise ConfigurationError(f"{field} is {shown(value)}, which has no time zone; add tzinfo, such as datetime.UTC")
    return value.astimezone(UTC)


def _words(length: timedelta) -> str:
    """Give a length as users write it: "1h30m"."""
    rest = length // _MICROSECOND
    text = ""
    for name, unit in _UNITS:
        amount, rest = divmod(rest, unit)
        text += f"{amount}{name}" if amount else ""
    return text + (f"{rest / 1000:g}ms" if rest else "")
