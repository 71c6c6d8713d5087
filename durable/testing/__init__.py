"""What durable offers to tests: an app by a clock that the test moves, builders of rows, the contract of a storage."""

from durable.errors import StillRunning
from durable.testing.clock import VirtualClock
from durable.testing.crash import CrashReport, CrashScene, crash_everywhere
from durable.testing.enqueued import EnqueuedCall
from durable.testing.histories import replay_histories
from durable.testing.kit import Kit, KitClock, app_under_test
from durable.testing.make import Maker
from durable.testing.virtual import VirtualMemory, VirtualStorage, virtual_storage
from durable.workflow.dry import ReplayedHistory

__all__ = [
    "CrashReport",
    "CrashScene",
    "EnqueuedCall",
    "Kit",
    "KitClock",
    "Maker",
    "ReplayedHistory",
    "StillRunning",
    "VirtualClock",
    "VirtualMemory",
    "VirtualStorage",
    "app_under_test",
    "crash_everywhere",
    "replay_histories",
    "virtual_storage",
]
