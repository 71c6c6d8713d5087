"""The storage in memory: every promise of durable.storage.Storage kept by the state machine over a dict.

It is the specification that other storages are compared with, and the storage for tests of user code.
"""

from durable.memory.storage import MemoryStorage, open_memory

__all__ = ["MemoryStorage", "open_memory"]
