"""Lists and counts of keyed jobs, for people and pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from durable.checks import integer
from durable.errors import ConfigurationError
from durable.job import JobFilter, JobKey, JobKind, JobStatus
from durable.jobs.errors import JobNotFound
from durable.jobs.keyed import BlockingPlayer, JobHome, Keyed, summary
from durable.jobs.results import JobSummary, ShownStatus
from durable.options import checked_text
from durable.script import Script, ask

__all__ = ["Jobs", "SyncJobs"]

_LARGEST_PAGE = 10_000
_SHOWN: Final = tuple(status for status in ShownStatus if status is not ShownStatus.NOT_FOUND)
_EVENTFUL: Final = (JobKind.DEBOUNCE, JobKind.TASK, JobKind.TIMER)
_OF_LIVING: Final[Mapping[ShownStatus, tuple[tuple[JobKind, ...], bool | None]]] = {
    ShownStatus.RUNNING: ((JobKind.CONTINUOUS,), None),
    ShownStatus.DEBOUNCING: ((JobKind.DEBOUNCE,), True),
    ShownStatus.ACTIVE: ((JobKind.TASK, JobKind.TIMER), True),
    ShownStatus.IDLE: (_EVENTFUL, False),
}
"""What an active job of which kinds, with or without a live turn, is shown as; shown_status is the same rule."""


def list_script(where: JobFilter, limit: int, after: str | None) -> Script[list[JobSummary]]:
    most = integer(limit, "limit", 1, _LARGEST_PAGE)
    last = None if after is None else _key_of(after)
    found = yield from ask(lambda storage: storage.list_jobs(where, limit=most, after=last))
    return [summary(view) for view in found]


def count_script(where: JobFilter) -> Script[int]:
    count: int = yield from ask(lambda storage: storage.count_jobs(where))
    return count


def filter_of(
    kind: str | None, name: str | None, status: str | None, key_prefix: str | None, dead_letters: object
) -> JobFilter:
    """Raises ConfigurationError for a kind or a status that there is not."""
    if kind is not None and kind not in list(JobKind):
        raise ConfigurationError(f"kind is {kind!r}; give one of {', '.join(JobKind)}")
    if status is not None and status not in _SHOWN:
        raise ConfigurationError(f"status is {status!r}; give one of {', '.join(_SHOWN)}")
    for field, value in (("name", name), ("key_prefix", key_prefix)):
        if value is not None:
            checked_text(value, field)
    if not (dead_letters is None or isinstance(dead_letters, bool)):
        raise ConfigurationError("dead_letters must be True, False or None")
    where = JobFilter(None if kind is None else JobKind(kind), name, key_prefix=key_prefix, has_dead=dead_letters)
    if status is None:
        # Dead letters of a job that has ended can be redriven like any.
        return where._replace(statuses=tuple(JobStatus)) if dead_letters else where
    shown = ShownStatus(status)
    if shown not in _OF_LIVING:
        return where._replace(statuses=(JobStatus(shown),))
    kinds, has_turn = _OF_LIVING[shown]
    return where._replace(statuses=(JobStatus.ACTIVE,), kinds=kinds, has_turn=has_turn)


def _key_of(instance_id: str) -> JobKey:
    kind, _, rest = str(instance_id).partition(":")
    name, _, key = rest.partition(":")
    if kind not in list(JobKind) or not name or not key:
        raise ConfigurationError(f"after is {instance_id!r}; give the instance_id of the last job of the page before")
    return JobKey(JobKind(kind), checked_text(name, "after"), checked_text(key, "after"))


class Jobs:
    """`app.jobs`: all keyed jobs of the schema, declared here or elsewhere."""

    def __init__(self, home: Callable[[], JobHome], declared: Mapping[str, Keyed[Any]]) -> None:
        self._home = home
        self._declared = declared

    def get(self, kind: str, name: str) -> Keyed[Any]:
        """The declared job of that kind and name; raises JobNotFound."""
        found = self._declared.get(f"{kind}:{name}")
        if found is None:
            raise JobNotFound(kind, name)
        return found

    async def list(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        status: str | None = None,
        key_prefix: str | None = None,
        dead_letters: bool | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[JobSummary]:
        """A page by kind, name and key; `after` is the instance_id of the last of the page before.

        `status` is a word that the lines have as theirs, such as running, debouncing, idle or terminated; without it
        those are listed that are not ended. Those of timers are listed, and counted, with kind="timer" only.
        `dead_letters` is True for jobs that keep events for `redrive`, ended ones too unless a status is given, and
        False for those without.
        """
        where = filter_of(kind, name, status, key_prefix, dead_letters)
        return await self._home().play(list_script(where, limit, after))

    async def count(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        status: str | None = None,
        key_prefix: str | None = None,
        dead_letters: bool | None = None,
    ) -> int:
        """How many a list would show; reads as many rows of an index."""
        return await self._home().play(count_script(filter_of(kind, name, status, key_prefix, dead_letters)))


class SyncJobs:
    """`client.jobs`: as Jobs, for code without an event loop."""

    def __init__(self, player: BlockingPlayer) -> None:
        self._player = player

    def list(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        status: str | None = None,
        key_prefix: str | None = None,
        dead_letters: bool | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[JobSummary]:
        return self._player.play(list_script(filter_of(kind, name, status, key_prefix, dead_letters), limit, after))

    def count(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        status: str | None = None,
        key_prefix: str | None = None,
        dead_letters: bool | None = None,
    ) -> int:
        return self._player.play(count_script(filter_of(kind, name, status, key_prefix, dead_letters)))
