"""Explain how an execution stands and why it does not run: pure functions over its record, the time and the executors.

Nothing here reads a storage or a clock. What it says is for people; no decision is made by it.
"""

from durable.explain.ended import redrive_refusal
from durable.explain.findings import explain
from durable.explain.report import StatusReport, report
from durable.explain.scene import Finding, Scene, is_alive
from durable.explain.words import error_of, moment, span, state_of

__all__ = [
    "Finding",
    "Scene",
    "StatusReport",
    "error_of",
    "explain",
    "is_alive",
    "moment",
    "redrive_refusal",
    "report",
    "span",
    "state_of",
]
