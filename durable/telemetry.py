"""OpenTelemetry: counts per batch, and a span per attempt where the application has set a tracer provider."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from opentelemetry import metrics, trace

from durable.execution import Claimed, Settlement, Status

__all__ = ["Telemetry"]

_SCOPE = "durable"


class Telemetry:
    """Names, ids and outcomes only: never a payload, nor the message of an error.

    Metrics: `durable.claimed`, `durable.settled` (by status), `durable.refused`, `durable.recovered` (by status).
    """

    def __init__(self, executor_id: str) -> None:
        self._executor_id = executor_id
        meter = metrics.get_meter(_SCOPE)
        self._claimed = meter.create_counter("durable.claimed", description="turns claimed")
        self._settled = meter.create_counter("durable.settled", description="turns whose end was written")
        self._refused = meter.create_counter("durable.refused", description="ends refused: the lease had been lost")
        self._recovered = meter.create_counter("durable.recovered", description="executions taken over by lease")
        # Without a provider of the application's, starting a span still costs microseconds per execution.
        is_traced = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
        self.tracer = trace.get_tracer(_SCOPE) if is_traced else None

    def claimed(self, count: int) -> None:
        if count:
            self._claimed.add(count)

    def settled(self, completed: int, others: Iterable[Settlement], refused: int) -> None:
        """`completed` counts ends that are not among the others."""
        counts = Counter(item.status for item in others)
        counts[Status.COMPLETED] += completed
        for status, count in counts.items():
            if count:
                self._settled.add(count, {"status": str(status)})
        if refused:
            self._refused.add(refused)

    def recovered(self, statuses: Iterable[str]) -> None:
        for status, count in Counter(statuses).items():
            self._recovered.add(count, {"status": status})

    @contextmanager
    def attempt(self, claimed: Claimed) -> Generator[None]:
        """A span around one attempt; an exception that passes through is recorded by its type."""
        if self.tracer is None:
            yield
            return
        attributes: dict[str, str | int] = {
            "durable.execution.id": claimed.id,
            "durable.root.id": claimed.root_id,
            "durable.attempt": claimed.attempts,
            "durable.queue": claimed.queue,
            "durable.executor.id": self._executor_id,
        }
        with self.tracer.start_as_current_span(
            f"durable.{claimed.kind} {claimed.task_name}", attributes=attributes, record_exception=False,
            set_status_on_exception=False,
        ) as span:  # fmt: skip
            try:
                yield
            except BaseException as error:
                span.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__name__))
                raise
