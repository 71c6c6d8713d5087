"""OpenTelemetry from events: a counter, a histogram of durations, and a span for each event that is traced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from opentelemetry import metrics, trace

from durable.events.event import EventName, LifecycleEvent
from durable.events.pool_meter import PoolMeter

__all__ = ["EventMeter"]

_SCOPE: Final = "durable"


class EventMeter:
    """Names, ids and outcomes only: never a payload, nor the message of an error."""

    def __init__(
        self, meters: metrics.MeterProvider | None = None, tracers: trace.TracerProvider | None = None
    ) -> None:
        """None means the providers that the application has set, or sets later."""
        meter = metrics.get_meter(_SCOPE, meter_provider=meters)
        self._events = meter.create_counter("durable.events", description="lifecycle events that were delivered")
        self._durations = meter.create_histogram("durable.duration", unit="s", description="how long attempts ran")
        self._pools = PoolMeter(meter)
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracers)

    async def send(self, events: Sequence[LifecycleEvent]) -> None:
        for event in events:
            if event.name == EventName.POOL_REPORT:
                self._pools.record(event)
                continue
            attributes = {"event": event.name, "task": event.task, "kind": event.kind}
            self._events.add(1, attributes)
            duration = event.data.get("duration_ms")
            if duration is not None:
                self._durations.record(duration / 1000, attributes)
            self._trace(event, duration or 0.0)

    def _trace(self, event: LifecycleEvent, duration: float) -> None:
        """A span that ends when the event was committed, and is as long as what it tells of."""
        ended = int(event.at.timestamp() * 1_000_000) * 1_000
        span = self._tracer.start_span(
            f"durable.{event.name} {event.task}",
            attributes=_attributes(event),
            start_time=ended - int(duration * 1_000_000),
        )
        if event.error is not None:
            span.set_status(trace.Status(trace.StatusCode.ERROR, event.error.type))
        span.end(ended)


def _attributes(event: LifecycleEvent) -> dict[str, Any]:
    facts = {f"durable.{name}": value for name, value in event.data.items() if isinstance(value, (str, int, float))}
    key = {} if event.key is None else {"durable.key": event.key}
    return {**facts, **key, "durable.event.id": event.id, "durable.subject": event.subject}
