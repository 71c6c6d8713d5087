"""Figures over time: samples of a load, each of some seconds, in phases."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

from benchmarks.common import quantile

__all__ = ["Sample", "Series"]


class Sample(NamedTuple):
    """What happened between the sample before and this one."""

    phase: str
    at: float
    """Its end, on the monotonic clock."""
    rate_per_s: float
    claim_times: list[float]
    """Milliseconds of each claim."""
    dead_tuples: int


@dataclass(slots=True)
class Series:
    width: float
    """Seconds of each sample, about."""
    samples: list[Sample] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        self.samples.append(sample)

    @property
    def ended_at(self) -> float:
        return self.samples[-1].at

    def of(self, phase: str) -> list[Sample]:
        return [sample for sample in self.samples if sample.phase == phase]

    def end_of(self, phase: str, part: float) -> list[Sample]:
        """The last samples of a phase, at least one."""
        samples = self.of(phase)
        return samples[-max(int(len(samples) * part), 1) :]

    def rate(self, phase: str) -> float:
        return median(sample.rate_per_s for sample in self.of(phase))

    def points(self) -> list[dict[str, Any]]:
        """As they are drawn: seconds since the first, and the claims of each sample as two quantiles, 0 without any."""
        first = self.samples[0].at
        return [
            {
                "phase": sample.phase,
                "s": round(sample.at - first, 2),
                "rate_per_s": round(sample.rate_per_s),
                "claim_p50_ms": round(quantile(sample.claim_times or [0.0], 0.5), 2),
                "claim_p99_ms": round(quantile(sample.claim_times or [0.0], 0.99), 2),
                "dead_tuples": sample.dead_tuples,
            }
            for sample in self.samples
        ]
