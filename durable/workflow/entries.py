"""What a history is made of: the kinds of its entries, and the commands of a body that they answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from durable.child import Child
from durable.execution import NewExecution
from durable.word import Word
from durable.workflow.fanout import MapChildren
from durable.workflow.step import StepPlan

__all__ = [
    "STUCK",
    "Command",
    "EntryKind",
    "Group",
    "Mark",
    "RunStep",
    "Send",
    "Sleep",
    "Start",
    "StartChild",
    "WaitMessage",
    "most_children_of",
    "most_entries_of",
]


STUCK: Final = "stuck"
"""The key of a CANCEL: the body waited for nothing that could come."""


class EntryKind(Word):
    CODE = "code"
    """From here on, the body of this fingerprint has run."""
    STEP = "step"
    """A step has its result, or has failed for good."""
    ATTEMPT = "attempt"
    """An attempt of a step has failed; there will be another."""
    SLEEPING = "sleeping"
    """A timer was started: of a sleep, or of the timeout of a wait."""
    SLEPT = "slept"
    SIGNAL = "signal"
    """A wait has met its message."""
    CHILD = "child"
    """A child was started."""
    CHILD_END = "child_end"
    WAVE = "wave"
    """Children of a map were started."""
    PAGE = "page"
    """The ends of some children of a map that is over, in the order of its items."""
    MAPPED = "mapped"
    """A map is over, and so are its pages; or too many of its children have failed."""
    STARTED = "started"
    """An execution of a tree of its own was started."""
    MARK = "mark"
    """Something that happens once and gives nothing back: a patch was met, a message sent."""
    CANCEL = "cancel"
    """The body was told to stop: `cancelled` by a request, `timed_out`, or `stuck`."""
    FAILED = "failed"
    """The body has ended with an error: from here on its work is undone, and finalized. No code may go back from it."""
    UPDATE = "update"
    """A request was accepted and its handler started, or it was refused."""
    SAID = "said"
    """So often the body had published, streamed or answered once it was given the entry `after`; all is stored."""


@dataclass(slots=True, eq=False)  # a frozen one takes four times as long to make
class RunStep:
    """Call a function, and store what it returns."""

    kind = EntryKind.STEP
    plan: StepPlan
    name: str
    """Of this call; that of what undoes something has a prefix, for one."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    digest: str = ""
    """Of its arguments as they were when it was asked for; the step itself may change them."""
    is_transaction: bool = False

    def dump(self, value: Any) -> str:
        """The stored form of what it returns."""
        return self.plan.result.dump(value, f"the result of step {self.name!r}")

    def load(self, text: str) -> Any:
        return self.plan.result.load(text, f"the stored result of step {self.name!r}")


@dataclass(frozen=True, slots=True)
class Sleep:
    kind = EntryKind.SLEEPING
    seconds: float | None
    """None: until a moment."""
    until: datetime | None

    @property
    def digest(self) -> str:
        """How long it is, as it was asked for. When it ends stands in its entry beside this."""
        return str(self.seconds) if self.until is None else self.until.isoformat()


@dataclass(frozen=True, slots=True)
class WaitMessage:
    """Wait for the next message of a name."""

    kind = EntryKind.SIGNAL
    name: str
    load: Callable[[str], Any]
    timeout: float | None
    until: datetime | None = None
    """When it is over, instead of after how long."""

    @property
    def digest(self) -> str:
        if self.until is not None:
            return self.until.isoformat()
        return "" if self.timeout is None else str(self.timeout)


@dataclass(slots=True, eq=False)
class Group:
    """Children of which the body can use none before all have ended."""


@dataclass(frozen=True, slots=True)
class StartChild:
    kind = EntryKind.CHILD
    child: Child[Any]
    read: Callable[[Any], Any]
    """Turns the child's end into what the body gets, or raises."""
    group: Group
    parent_id: str = ""
    """Who starts it. In a copied history a child of another is not this command's."""
    digest: str = ""
    """Of its arguments and options."""


@dataclass(frozen=True, slots=True)
class Start:
    """Start an execution that is nobody's child."""

    kind = EntryKind.STARTED
    new: NewExecution
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """Remember that the body came here."""

    kind = EntryKind.MARK


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to another workflow."""

    kind = EntryKind.MARK
    execution_id: str
    name: str
    payload: str
    digest: str = ""
    """Of the value and its receiver; the payload may be sealed, and another one each time."""


Command = RunStep | Sleep | WaitMessage | StartChild | MapChildren | Start | Mark | Send


def most_children_of(command: Command) -> int:
    """How many it may have at once."""
    if isinstance(command, RunStep):  # the first question, because it is what most commands are
        return 0
    if isinstance(command, MapChildren):
        return command.most_at_once
    return 1 if isinstance(command, StartChild) else 0


def most_entries_of(command: Command) -> int:
    """How many its answer takes, attempts that fail apart: of timers and children also one for their beginning."""
    if isinstance(command, RunStep):
        return 1
    has_timer = isinstance(command, WaitMessage) and (command.timeout is not None or command.until is not None)
    return 2 if has_timer or isinstance(command, (Sleep, StartChild)) else 1
