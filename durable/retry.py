"""The retry policy: from a failed attempt and a random number to the delay before the next one. No I/O, no clock."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final, cast

from durable.checks import integer, number, shown
from durable.durations import Duration, seconds
from durable.errors import ConfigurationError, ErrorInfo, NonRetryable, RetryAfter, SerializationError

__all__ = [
    "NO_RETRY",
    "Constant",
    "Exponential",
    "Linear",
    "Retry",
    "checked_retry",
    "constant",
    "exponential",
    "linear",
]

_log = logging.getLogger(__name__)

SHORTEST_DELAY_SECONDS: Final = 1e-6
LONGEST_DELAY_SECONDS: Final = 30 * 86_400.0
MOST_ATTEMPTS: Final = 1_000_000
LARGEST_FACTOR: Final = 1_000.0

# A value that JSON cannot hold is refused in every further attempt as well.
_FINAL: Final = (NonRetryable, SerializationError)


@dataclass(frozen=True, slots=True)
class Constant:
    """The same delay before every attempt; made by `constant()`."""

    kind: ClassVar[str] = "constant"
    delay: float

    def __call__(self, attempt: int) -> float:
        return self.delay


@dataclass(frozen=True, slots=True)
class Linear:
    """step, 2·step, 3·step … up to `max`; made by `linear()`."""

    kind: ClassVar[str] = "linear"
    step: float
    max: float

    def __call__(self, attempt: int) -> float:
        return min(self.step * attempt, self.max)


@dataclass(frozen=True, slots=True)
class Exponential:
    """first, first·factor, first·factor² … up to `max`; made by `exponential()`."""

    kind: ClassVar[str] = "exponential"
    first: float
    factor: float
    max: float

    def __call__(self, attempt: int) -> float:
        if self.first == 0.0 or self.factor == 1.0:
            return min(self.first, self.max)
        # Beyond this exponent the cap holds anyway, and the power would leave the floats at some later attempt.
        enough = math.log(self.max / self.first, self.factor) if self.max > self.first else 0.0
        return self.max if attempt - 1 >= enough else min(self.first * self.factor ** (attempt - 1), self.max)


Strategy = Constant | Linear | Exponential
"""A delay that is data, so it can be stored with an execution."""

DelayFunction = Callable[[int], Duration]
"""From the number of the attempt that just failed, 1 for the first, to the delay before the next."""


def constant(delay: Duration) -> Constant:
    """Wait `delay` before every further attempt."""
    return Constant(_delay(delay, "constant(delay)"))


def linear(step: Duration, *, max: Duration = LONGEST_DELAY_SECONDS) -> Linear:  # noqa: A002 - the word users expect
    """Wait `step` before the second attempt, twice that before the third, and so on, never above `max`."""
    return Linear(_delay(step, "linear(step)"), _delay(max, "linear(max)"))


def exponential(first: Duration, *, factor: float = 2.0, max: Duration = "30s") -> Exponential:  # noqa: A002 - as above
    """Wait `first` before the second attempt and `factor` times as long before each further one, never above `max`."""
    return Exponential(
        _delay(first, "exponential(first)"),
        number(factor, "exponential(factor)", 1.0, LARGEST_FACTOR),
        _delay(max, "exponential(max)"),
    )


@dataclass(frozen=True, slots=True, init=False)
class Retry:
    """When a failed attempt is tried again, and after how long.

    `max_attempts` counts all starts of the handler: 1 means never try again. `delay` is a strategy, a fixed duration,
    or a function of the failed attempt's number. `jitter` is the part of the delay that is random: with 0.5, the
    delay is between half and the whole of what the strategy says, so it never exceeds its cap; 0 turns it off.
    `max_duration` (seconds since the execution was created) ends the retries when the next attempt could only start
    at or after it. `retry_if` is asked about each exception; False ends the retries.
    """

    max_attempts: int
    delay: Strategy | DelayFunction
    jitter: float
    max_duration: float | None
    retry_if: Callable[[BaseException], bool] | None

    def __init__(
        self,
        max_attempts: int = 3,
        delay: Strategy | DelayFunction | Duration | None = None,
        jitter: float = 0.5,
        max_duration: Duration | None = None,
        retry_if: Callable[[BaseException], bool] | None = None,
    ) -> None:
        """Raise ConfigurationError, naming the field and its limits, for a value that cannot be meant."""
        if retry_if is not None and not callable(retry_if):
            raise ConfigurationError(f"retry.retry_if is {shown(retry_if)}; give a function of the exception")
        limit = None if max_duration is None else seconds(max_duration, "retry.max_duration")
        put = object.__setattr__
        put(self, "max_attempts", integer(max_attempts, "retry.max_attempts", 1, MOST_ATTEMPTS))
        put(self, "delay", _strategy(delay))
        put(self, "jitter", number(jitter, "retry.jitter", 0.0, 1.0))
        put(self, "max_duration", limit)
        put(self, "retry_if", retry_if)

    def delay_before(self, attempt_just_failed: int, random: float) -> float:
        """Return the seconds to wait before the next attempt; `random` is from 0.0 to 1.0.

        Never negative, never above the strategy's cap or 30 days. Raises ConfigurationError if a user's delay
        function gives no duration, and whatever that function raises.
        """
        strategy = self.delay
        delay = strategy(attempt_just_failed)
        if not isinstance(strategy, Strategy):
            delay = min(seconds(delay, "the result of retry.delay"), LONGEST_DELAY_SECONDS)
        return cast("float", delay) * (1.0 - self.jitter * random)

    def decide(self, *, attempts: int, error: BaseException | ErrorInfo, elapsed: float, random: float) -> float | None:
        """Return the seconds until the next attempt, or None to give up.

        `attempts` counts the starts so far, the failed one included; `elapsed` is the seconds since the execution was
        created; `random` is from 0.0 to 1.0. RetryAfter sets the delay and skips `retry_if`; both limits still hold.
        Never raises: if a user's `retry_if` or delay function fails, the execution is given up, and that is logged.
        """
        return self.judge(attempts=attempts, error=error, elapsed=elapsed, random=random)[0]

    def judge(
        self, *, attempts: int, error: BaseException | ErrorInfo, elapsed: float, random: float
    ) -> tuple[float | None, str | None]:
        """As `decide`, with the limit that ended the retries: `max_attempts`, `max_duration`, or None for neither."""
        if attempts >= self.max_attempts:
            return None, "max_attempts"
        try:
            if not self._wants(error):
                return None, None
            delay = self._delay_after(error, attempts, random)
        except Exception as broken:
            # The text of the exception may hold payload, so only its type is logged.
            _log.error("a retry policy's own function raised %s; the execution is not retried", type(broken).__name__)
            return None, None
        too_late = self.max_duration is not None and elapsed + delay >= self.max_duration
        return (None, "max_duration") if too_late else (delay, None)

    def to_json(self) -> str:
        """Return the policy as text; raises ConfigurationError if it holds a function, which no row can hold."""
        if not isinstance(self.delay, Strategy):
            raise ConfigurationError(
                "retry.delay is a function, which cannot be stored; use constant(), linear() or exponential(), "
                "or declare the policy on the task"
            )
        if self.retry_if is not None:
            raise ConfigurationError("retry.retry_if is a function, which cannot be stored; declare it on the task")
        return json.dumps(
            {
                "max_attempts": self.max_attempts,
                "delay": {"kind": self.delay.kind, **asdict(self.delay)},
                "jitter": self.jitter,
                "max_duration": self.max_duration,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Retry:
        """Return the policy that `to_json` wrote; raises ConfigurationError for any other text."""
        try:
            stored: dict[str, Any] = json.loads(text)
            arguments: dict[str, Any] = dict(stored["delay"])
            strategy = _STRATEGIES[arguments.pop("kind")](**arguments)
            return cls(stored["max_attempts"], strategy, stored["jitter"], stored["max_duration"])
        except ConfigurationError:
            raise
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ConfigurationError(f"this version cannot read the stored retry policy {shown(text)}") from None

    def _wants(self, error: BaseException | ErrorInfo) -> bool:
        if isinstance(error, ErrorInfo):
            return error.is_retryable
        if is_final(error):
            return False
        return self.retry_if is None or isinstance(error, RetryAfter) or bool(self.retry_if(error))

    def _delay_after(self, error: BaseException | ErrorInfo, attempts: int, random: float) -> float:
        if isinstance(error, RetryAfter):  # what the task asked for is not shortened by jitter
            return asked_delay(error)
        return self.delay_before(attempts, random)


_STRATEGIES: Final[dict[str, Callable[..., Strategy]]] = {
    "constant": constant,
    "linear": linear,
    "exponential": exponential,
}


def is_final(error: BaseException) -> bool:
    """Whether no policy tries again after it: NonRetryable, also in a group, and what does not fit its type."""
    if isinstance(error, BaseExceptionGroup):  # a task group wraps what its tasks raise
        return cast("BaseExceptionGroup[BaseException]", error).subgroup(_FINAL) is not None
    return isinstance(error, _FINAL)


def asked_delay(error: RetryAfter) -> float:
    """Seconds, within the bounds of every delay."""
    return min(max(error.delay.total_seconds(), 0.0), LONGEST_DELAY_SECONDS)


def _delay(value: Duration, field: str) -> float:
    # What the database cannot tell from nothing is nothing; dividing by it would also leave the floats.
    delay = seconds(value, field, maximum=LONGEST_DELAY_SECONDS)
    return delay if delay >= SHORTEST_DELAY_SECONDS else 0.0


def _strategy(delay: Strategy | DelayFunction | Duration | None) -> Strategy | DelayFunction:
    if delay is None:
        return exponential("1s")
    if callable(delay):
        return delay
    return Constant(_delay(delay, "retry.delay"))


def checked_retry(given: object) -> Retry | None:
    """The policy, or None where nothing is said; raises ConfigurationError, naming what to give, for all else."""
    if given is None or isinstance(given, Retry):
        return given
    instead = "; for no retries give Retry(1), which starts it once" if given is False else ""
    raise ConfigurationError(f"retry must be a Retry(…) or None, not {shown(given)}{instead}")


NO_RETRY: Final = Retry(max_attempts=1)
"""The policy of a task that declares none."""
