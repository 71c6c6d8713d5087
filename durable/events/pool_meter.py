"""OpenTelemetry from the reports of pools: gauges of what stands in them, counters of what has ended."""

from __future__ import annotations

from typing import Final

from opentelemetry import metrics

from durable.events.event import LifecycleEvent

__all__ = ["PoolMeter"]

_GAUGES: Final = {
    "backlog": "executions that are due and wait",
    "scheduled": "executions that are due later",
    "running": "executions that run",
}
_ENDS: Final = ("completed", "failed", "cancelled")


class PoolMeter:
    """By pool: the rates are for the backend to take from the counters, over any time it likes."""

    def __init__(self, meter: metrics.Meter) -> None:
        self._gauges = {
            name: meter.create_gauge(f"durable.pool.{name}", description=what) for name, what in _GAUGES.items()
        }
        self._lag = meter.create_gauge(
            "durable.pool.start_lag", unit="s", description="from due to started, of first attempts, in the last minute"
        )
        self._ended = meter.create_counter("durable.pool.ended", description="executions that ended, by outcome")
        self._attempts = meter.create_counter("durable.pool.attempts", description="attempts that ended, by outcome")
        self._retries = meter.create_counter("durable.pool.retries", description="failures to be tried again")

    def record(self, event: LifecycleEvent) -> None:
        pool, data = {"pool": event.task}, event.data
        for name, gauge in self._gauges.items():
            gauge.set(data[name], pool)
        for name in ("mean", "max"):
            self._lag.set(data[f"start_lag_{name}"], {**pool, "of": name})
        for name in _ENDS:
            self._ended.add(data[name], {**pool, "outcome": name})
        self._attempts.add(data["failures"], {**pool, "outcome": "failed"})
        self._attempts.add(data["attempts"] - data["failures"], {**pool, "outcome": "succeeded"})
        self._retries.add(data["retries"], pool)
