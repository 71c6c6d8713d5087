"""The messages of a workflow that no wait has met yet."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

from durable.workflow_rows import Message, MessageKind

__all__ = ["Inbox"]

_STOP = "\x00cancel"
"""Where requests to stop wait, whatever they are called; no signal's name begins with NUL."""
_UPDATES = "\x00update"
"""Where updates wait, of all names, so that they are met in their order."""


class Inbox:
    """By name, in the order in which they came; each is met once."""

    def __init__(self) -> None:
        self.seen = 0
        """The number of the last message that was ever sent, as far as it is known here."""
        self.size = 0
        """Characters of all payloads, also of messages that were met."""
        self._waiting: dict[str, deque[Message]] = defaultdict(deque)
        self._by_number: dict[int, Message] = {}
        self._met: set[int] = set()

    def take(self, messages: Iterable[Message], *, known: int) -> None:
        """Keep messages; those that were given before are passed over. `known` are all numbers that were asked for:
        some of them may be gone, from an earlier run of a workflow that has continued as new.
        """
        for message in messages:
            if message.number <= self.seen:
                continue
            self.seen = message.number
            self.size += len(message.payload)
            self._by_number[message.number] = message
            if message.number not in self._met:
                self._waiting[_box(message)].append(message)
        self.seen = max(self.seen, known)

    @property
    def is_empty(self) -> bool:
        """Nothing has ever come, as to most workflows."""
        return not self._waiting

    def of(self, name: str) -> Sequence[Message]:
        """The signals of that name that wait."""
        return self._waiting.get(name, ())

    def stop_request(self) -> Message | None:
        """The last of those that wait, which stands for all of them."""
        waiting = self._waiting.get(_STOP)
        return waiting[-1] if waiting else None

    def meet_stops(self, number: int) -> None:
        """Those up to that number wait no more."""
        for message in [each for each in self._waiting.get(_STOP, ()) if each.number <= number]:
            self.meet(message.number)

    def next_update(self) -> Message | None:
        return next(iter(self._waiting.get(_UPDATES, ())), None)

    def meet(self, number: int) -> Message | None:
        """The message of that number, which waits no more; None where it is not kept, as beside a copied history."""
        self._met.add(number)
        message = self._by_number.get(number)
        if message is not None and message in (box := self._waiting[_box(message)]):
            box.remove(message)
        return message

    @property
    def unmet(self) -> tuple[int, ...]:
        """The numbers of those that no wait has met."""
        return tuple(number for number in self._by_number if number not in self._met)


def _box(message: Message) -> str:
    match message.kind:
        case MessageKind.SIGNAL:
            return message.name
        case MessageKind.CANCEL:
            return _STOP
        case MessageKind.UPDATE:
            return _UPDATES
