"""OpenTelemetry from events: counts, durations and spans, and no payload among them."""

from datetime import UTC, datetime
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from durable import ErrorInfo, LifecycleEvent
from durable.events.otel import EventMeter
from durable.events.pools import fact_of_pool
from durable.pool_rows import DueReport, PoolTally

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def event(**fields: Any) -> LifecycleEvent:
    whole: dict[str, Any] = {
        "id": "id", "name": "execution.failed", "at": AT, "subject": "subject", "kind": "task", "task": "charge",
        "key": None, "data": {"attempt": 2, "duration_ms": 250.0}, "error": ErrorInfo("LookupError", "secret"),
        "payload": {"input": "secret"},
    }  # fmt: skip
    return LifecycleEvent(**{**whole, **fields})


async def test_events_become_counts_durations_and_spans() -> None:
    reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    meter = EventMeter(MeterProvider([reader]), tracers)

    await meter.send([event(), event(), event(name="job.terminated", data={}, error=None, key="k")])

    data = reader.get_metrics_data()
    assert data is not None
    (scope,) = data.resource_metrics[0].scope_metrics
    points = {metric.name: list(metric.data.data_points) for metric in scope.metrics}
    counts = {point.attributes["event"]: point.value for point in points["durable.events"]}  # type: ignore[union-attr,index]
    assert counts == {"execution.failed": 2, "job.terminated": 1}
    (duration,) = points["durable.duration"]
    assert (duration.count, duration.sum) == (2, 0.5)  # type: ignore[union-attr]
    failed, _, terminated = spans.get_finished_spans()
    assert failed.end_time == int(AT.timestamp()) * 10**9
    assert (failed.end_time or 0) - (failed.start_time or 0) == 250_000_000
    assert (failed.name, failed.status.status_code) == ("durable.execution.failed charge", StatusCode.ERROR)
    assert (failed.status.description, (failed.attributes or {})["durable.attempt"]) == ("LookupError", 2)
    assert (terminated.attributes or {})["durable.key"] == "k"
    assert "secret" not in failed.to_json() + repr(data)


async def test_reports_of_pools_become_gauges_and_counters_and_no_spans() -> None:
    reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    meter = EventMeter(MeterProvider([reader]), tracers)
    first = PoolTally("emails", "a", 7, 2, 3, 6, 1, 1, 12, 6, 4, 4, 2.0, 1.5)
    second = PoolTally("emails", "a", 5, 0, 1, 10, 0, 0, 10, 0, 0, 10, 30.0, 4.0)

    for tally in (first, second):
        fact = fact_of_pool(DueReport("emails", 60.0, (tally,)))
        await meter.send([event(name=fact.name, kind=fact.kind, task=fact.task_name, data=fact.data, error=None)])

    data = reader.get_metrics_data()
    assert data is not None
    (scope,) = data.resource_metrics[0].scope_metrics
    found: dict[str, Any] = {}
    for metric in scope.metrics:
        for point in metric.data.data_points:
            labels = dict(point.attributes or {})
            assert labels.pop("pool") == "emails"
            found[" ".join([metric.name, *map(str, labels.values())])] = point.value  # type: ignore[union-attr]
    assert found == {
        "durable.pool.backlog": 5, "durable.pool.scheduled": 0, "durable.pool.running": 1,
        "durable.pool.start_lag mean": 3.0, "durable.pool.start_lag max": 4.0, "durable.pool.ended completed": 16,
        "durable.pool.ended failed": 1, "durable.pool.ended cancelled": 1, "durable.pool.attempts failed": 6,
        "durable.pool.attempts succeeded": 16, "durable.pool.retries": 4,
    }  # fmt: skip
    assert spans.get_finished_spans() == ()
