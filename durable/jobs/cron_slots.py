"""The slots of a cron expression in a time zone. Pure: reads no clock.

cronsim matches fields against local times without a zone; all about zones is decided here. Its own walk through a
zone differs between expressions of five and six fields, may return a moment that is over when it starts inside a
repeated hour, and misses repeated times where the clock changes by less than an hour.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from durable.checks import shown
from durable.errors import ConfigurationError
from durable.jobs.local_time import first_change, first_moment, reading

__all__ = ["CronSlots", "checked_expression", "checked_zone"]

_MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_LONGEST_EXPRESSION: Final = 250
_SECOND: Final = timedelta(seconds=1)
# From any date, cronsim looks 50 years ahead; the rarest date, a given weekday on 29 February, comes within 40.
_ANY_DATE: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - a local time


@dataclass(frozen=True, slots=True)
class CronSlots:
    """The moments that a cron expression names; made by `cron()`, which checks both parts."""

    expression: str
    tz: str
    zone: ZoneInfo = field(compare=False, repr=False)

    def after(self, moment: datetime, slot: datetime | None) -> datetime:
        """Return the first slot strictly after both `moment` and `slot`."""
        start = moment if slot is None else max(moment, slot)
        # Slots are whole seconds, so the first one after the second that has begun is the first one after `start`.
        start = start.astimezone(UTC).replace(microsecond=0)
        return self._next_fixed(start) if self._has_fixed_times() else self._next_shown(start)

    def describe(self) -> str:
        return f'cron "{self.expression}" in {self.tz}'

    def _has_fixed_times(self) -> bool:
        fields = _fields(self.expression)
        return not any(times.startswith("*") for times in fields[: len(fields) - 3])

    def _next_fixed(self, start: datetime) -> datetime:
        local = reading(start, self.zone)
        while True:
            local = self._match(local)
            slot = first_moment(local, self.zone)
            # Where the clock shows an hour for the second time, the first time that it showed `local` is over.
            if slot > start:
                return slot

    def _next_shown(self, start: datetime) -> datetime:
        origin, shown_at_origin = start, reading(start, self.zone)
        local = shown_at_origin
        while True:
            match = self._match(local)
            slot = origin + (match - shown_at_origin)
            change = first_change(origin, slot, self.zone)
            if change is None:
                return slot
            # The clock jumps before it shows the match. Look again from there; the time shown at the change may match.
            origin, shown_at_origin = change, reading(change, self.zone)
            local = shown_at_origin - _SECOND

    def _match(self, local: datetime) -> datetime:
        return next(CronSim(" ".join(_fields(self.expression)), local))


def checked_expression(value: object) -> str:
    """Return the expression with single spaces; raises ConfigurationError if it is none, or names no existing date."""
    if not isinstance(value, str) or not value.isascii() or len(value) > _LONGEST_EXPRESSION:
        raise ConfigurationError(f"{_refusal(value)}; give a string of at most {_LONGEST_EXPRESSION} ASCII characters")
    fields = _fields(value)
    if len(fields) not in (5, 6):
        raise ConfigurationError(
            f"{_refusal(value)}, which has {len(fields)} fields; give minute, hour, day of month, month and day of "
            f"week, with the second before them if wanted, or one of {', '.join(_MACROS)}"
        )
    try:
        found = next(CronSim(" ".join(fields), _ANY_DATE), None)
    except CronSimError as error:
        raise ConfigurationError(f"{_refusal(value)}: {error}") from None
    if found is None:
        raise ConfigurationError(f"{_refusal(value)}, which names no date of any year")
    return " ".join(value.split())


def checked_zone(value: object) -> ZoneInfo:
    """Return the zone of an IANA name; raises ConfigurationError if this machine knows none of that name."""
    name = value.key if isinstance(value, ZoneInfo) else value
    # "localtime" is a file beside the zones on many machines, and another zone on each of them.
    known = isinstance(name, str) and name != "localtime" and _is_zone(name)
    if not known:
        raise ConfigurationError(f'tz is {shown(value)}; give the name of an IANA time zone such as "Europe/Berlin"')
    return ZoneInfo(str(name))


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, no possible name, or a folder of names such as "America"
        return False
    return True


def _fields(expression: str) -> list[str]:
    return _MACROS.get(expression.strip().lower(), expression).split()


def _refusal(value: object) -> str:
    return f"expr is {shown(value)}"
