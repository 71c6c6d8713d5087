"""The options of single calls of a body, as `ctx.with_options` gives them: kept, merged, and refused where unused."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Final

from durable.errors import ConfigurationError
from durable.retry import Retry
from durable.workflow.step import StepPlan

__all__ = ["NO_ASKS", "Asks"]

_NAMELESS: Final = "a step needs a name that stays the same: use def, or with_options(name=…)"


@dataclass(frozen=True, slots=True)
class Asks:
    """Of one kind of call; None leaves what the step says itself."""

    name: str | None = None
    retry: Retry | None = None
    timeout: float | None = None
    """Seconds for one attempt."""

    def merged(self, later: Asks) -> Asks:
        """What both say, and where both say something, the later."""
        return Asks(later.name or self.name, later.retry or self.retry, later.timeout or self.timeout)

    def on(self, plan: StepPlan) -> StepPlan:
        """The plan of a function with these options. Raises ConfigurationError for one without a name."""
        name = self.name or plan.name
        if not name:
            raise ConfigurationError(_NAMELESS)
        if self is NO_ASKS:
            return plan
        return replace(plan, name=name, retry=self.retry or plan.retry, timeout=self.timeout or plan.timeout)

    def refuse(self, call: str, *, takes_name: bool = False) -> None:
        """Raises ConfigurationError if there are options that the call would do nothing with."""
        given = {"name": None if takes_name else self.name, "retry": self.retry, "timeout": self.timeout}
        unused = [f"{name}=…" for name, value in given.items() if value is not None]
        if unused:
            raise ConfigurationError(
                f"with_options({', '.join(unused)}) does nothing for {call}: it is for step, transaction and "
                "on_rollback, and its name for sleep and timeout"
            )

    # --- the stored form, for calls that a workflow takes along when it continues as new ----------------------

    def to_json(self) -> str | None:
        """None where there are no options. Raises ConfigurationError for a policy that cannot be stored."""
        if self == NO_ASKS:
            return None
        retry = None if self.retry is None else self.retry.to_json()
        return json.dumps({"name": self.name, "retry": retry, "timeout": self.timeout})

    @classmethod
    def from_json(cls, text: str | None) -> Asks:
        if text is None:
            return NO_ASKS
        stored: dict[str, Any] = json.loads(text)
        retry = None if stored["retry"] is None else Retry.from_json(stored["retry"])
        return cls(stored["name"], retry, stored["timeout"])


NO_ASKS: Final = Asks()
