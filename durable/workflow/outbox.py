"""What a body has said since its last checkpoint, and what goes out with the next one."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Outbox"]


@dataclass(slots=True)
class Outbox:
    values: dict[str, str] = field(default_factory=dict[str, str])
    """Published values by key."""
    chunks: list[str] = field(default_factory=list[str])

    def take(self) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
        taken = tuple(self.values.items()), tuple(self.chunks)
        self.values.clear()
        self.chunks.clear()
        return taken

    def __bool__(self) -> bool:
        return bool(self.values or self.chunks)
