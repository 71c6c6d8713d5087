"""What durable offers to tests: a clock that stands still, builders of rows, and the contract of a storage."""

from durable.testing.clock import VirtualClock
from durable.testing.make import Maker

__all__ = ["Maker", "VirtualClock"]
