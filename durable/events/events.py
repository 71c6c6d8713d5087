"""app.events: who is told of what happens to executions and jobs, and what has not been delivered yet."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar, overload

from durable.checks import integer, shown
from durable.durations import Duration, seconds
from durable.errors import ConfigurationError, DeliveryFailed
from durable.events.emitter import RECORDER, Emitter, Subscriber
from durable.events.event import EventName, LifecycleEvent
from durable.events.http import HttpEndpoint
from durable.events.otel import EventMeter
from durable.settings import checked_name
from durable.storage import Storage

__all__ = ["Events", "expanded_names"]

_MOST_IN_A_BATCH: Final = 1000
_EVERY: Final = frozenset(EventName)

Callback = Callable[[LifecycleEvent], Awaitable[None] | None]
C = TypeVar("C", bound=Callable[[LifecycleEvent], object])


class Events:
    """Subscribe before an executor starts. Executors deliver: at least once, and in order for each subject.

    A subscriber's name must stay the same over deployments, because what it has not been given waits under it. One
    that fails is tried again with growing pauses, and holds nobody back but itself.
    """

    def __init__(self, emitter: Emitter, storage: Callable[[], Storage]) -> None:
        self._emitter = emitter
        self._storage = storage

    @overload
    def subscribe(
        self, callback: C, /, *, names: Iterable[str] | None = None, payloads: bool = False, name: str | None = None
    ) -> C: ...
    @overload
    def subscribe(
        self, /, *, names: Iterable[str] | None = None, payloads: bool = False, name: str | None = None
    ) -> Callable[[C], C]: ...
    def subscribe(
        self,
        callback: Any = None,
        /,
        *,
        names: Iterable[str] | None = None,
        payloads: bool = False,
        name: str | None = None,
    ) -> Any:
        """Call a function, `def` or `async def`, with each event; also as a decorator, bare or with options.

        `names` are names of events, or `"job.*"` for all that begin so; None means every one. `payloads` adds inputs,
        outputs and tracebacks. `name` is the subscriber's, by default the function's own. What raises is called again
        with the same event; a sync function runs in a thread. Raises ConfigurationError.
        """

        def register(function: C) -> C:
            if not callable(function):
                raise ConfigurationError(f"a subscriber is a function, not {type(function).__name__}")
            own: str = getattr(function, "__name__", "") if name is None else name
            if own in ("", "<lambda>"):
                raise ConfigurationError("give a name= to a subscriber whose function has none")
            self._add(own, names, payloads, 1, _caller(function))
            return function

        return register if callback is None else register(callback)

    def to_http(
        self,
        endpoint: str,
        *,
        env: str | None = None,
        service_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        batch: int = 100,
        timeout: Duration = 10.0,
        names: Iterable[str] | None = None,
        payloads: bool = False,
        name: str = "http",
    ) -> None:
        """POST `{"events": […]}` to an endpoint, at most `batch` of them at once.

        Any answer from 200 to 299 within `timeout` means that it has them; everything else, redirects included, is
        tried again. `env` and `service_key` are added to each event. Raises ConfigurationError.
        """
        limit = seconds(timeout, "timeout", minimum=0.01, maximum=600.0)
        sender = HttpEndpoint(
            endpoint, env=env, service_key=service_key, headers={} if headers is None else headers, timeout=limit
        )
        self._add(name, names, payloads, integer(batch, "batch", 1, _MOST_IN_A_BATCH), sender.send)

    def to_opentelemetry(self, *, names: Iterable[str] | None = None, name: str = "opentelemetry") -> None:
        """Count events, measure durations, and add a span for each, with the providers of the application.

        Metrics: `durable.events` (by event, task and kind), `durable.duration` in seconds (the same); for reports of
        pools `durable.pool.…` (by pool) instead. Once is meant: an event that is delivered twice is counted twice.
        """
        self._add(name, names, False, 100, EventMeter().send)

    async def pending(self) -> dict[str, int]:
        """How many events wait for each subscriber: of this app, and of names that only other deployments know."""
        stored = await self._storage().undelivered()
        waiting = {**dict.fromkeys((subscriber.name for subscriber in self._emitter.subscribers), 0), **stored}
        return {name: count for name, count in waiting.items() if name != RECORDER}

    async def discard(self, name: str) -> int:
        """Throw away what waits for a subscriber, such as one that was renamed or removed; gives how many."""
        return await self._storage().discard_notices(name)

    def _add(
        self,
        name: str,
        names: Iterable[str] | None,
        payloads: bool,
        batch: int,
        send: Callable[[Sequence[LifecycleEvent]], Awaitable[None]],
    ) -> None:
        wanted = _EVERY if names is None else expanded_names(names)
        self._emitter.add(Subscriber(checked_name(name, "the subscriber's name"), wanted, payloads, batch, send))


def expanded_names(names: Iterable[str]) -> frozenset[EventName]:
    """The events that are meant; raises ConfigurationError for what means none."""
    if isinstance(names, str):
        raise ConfigurationError(f'names is one text; give a list such as ["{names}"]')
    if not isinstance(names, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"names is {shown(names)}; give a list of names of events")
    found: set[EventName] = set()
    for name in names:
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"names holds {shown(name)}; give names of events")
        prefix = name.removesuffix("*")
        meant = {event for event in EventName if event == name or (prefix.endswith(".") and event.startswith(prefix))}
        if not meant:
            raise ConfigurationError(f"there is no event {name!r}; known: {', '.join(EventName)}")
        found |= meant
    if not found:
        raise ConfigurationError("names is empty; leave it out for every event")
    return frozenset(found)


def _caller(function: Callable[[LifecycleEvent], object]) -> Callable[[Sequence[LifecycleEvent]], Awaitable[None]]:
    """Call it with each event; it may raise anything, and only errors come through."""
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 - of an object that is called, not whether it can be
    )

    async def send(events: Sequence[LifecycleEvent]) -> None:
        for event in events:
            if is_async:
                await _awaited(function(event))
            else:
                await asyncio.to_thread(_called, function, event)

    return send


async def _awaited(result: Any) -> None:
    try:
        await result
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as error:
        # SystemExit and its like would end the event loop and everybody else's work.
        raise DeliveryFailed(f"the subscriber raised {type(error).__name__}") from error


def _called(function: Callable[[LifecycleEvent], object], event: LifecycleEvent) -> None:
    try:
        result = function(event)
    except BaseException as error:
        # No future can carry a StopIteration either.
        raise DeliveryFailed(f"the subscriber raised {type(error).__name__}") from error
    if inspect.iscoroutine(result):
        result.close()
        raise DeliveryFailed("the subscriber is a sync function that returned a coroutine; declare it with async def")
