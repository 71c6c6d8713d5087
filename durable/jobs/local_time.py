"""Between the clock on the wall of a time zone and UTC, across its changes. Pure: reads no clock.

Local times are naive datetimes, moments are aware ones in UTC; both of whole seconds, as are all changes of zones.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

__all__ = ["first_change", "first_moment", "reading"]

_SECOND: Final = timedelta(seconds=1)
_PROBE: Final = timedelta(days=1)
"""No zone changes and changes back within a day, so comparing offsets at this distance misses no change."""


def reading(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return what the local clock shows at a moment."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def first_moment(local: datetime, zone: ZoneInfo) -> datetime:
    """Return the first moment at which the local clock shows `local`, or has passed it where a change skips it."""
    earlier, later = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if earlier <= later:  # shown once, or twice: fold 0 is the first time
        return earlier
    # Skipped. Fold 1 goes by the offset after the change and lands before it, fold 0 the other way round.
    change = first_change(later, earlier, zone)
    assert change is not None
    return change


def first_change(start: datetime, end: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the first moment after `start` and not after `end` from which another offset holds; None if none does."""
    offset = start.astimezone(zone).utcoffset()
    while start < end:
        stop = min(start + _PROBE, end)
        if stop.astimezone(zone).utcoffset() != offset:
            return _change_between(start, stop, zone)
        start = stop
    return None


def _change_between(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    offset = before.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // _SECOND // 2 * _SECOND
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after
