"""Log what happens to executions, each as loudly as its definition asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Literal, Protocol, get_args

from durable.attempts import Attempt
from durable.checks import shown
from durable.errors import ConfigurationError
from durable.execution import Settlement

__all__ = ["ExecutionLog", "LogLevel", "checked_log_level"]

LogLevel = Literal["debug", "info", "warning", "error", "off"]
"""The least that is logged: "debug" starts and ends too, "info" attempts that are retried, "warning" executions that
lost their executor, "error" failures for good alone, "off" nothing."""

_log = logging.getLogger("durable")
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "off": logging.CRITICAL + 1,
}


class _Subject(Protocol):
    """A record, or a claim of one."""

    @property
    def id(self) -> str: ...

    @property
    def task_name(self) -> str: ...


class _OwnLevel(logging.Logger):
    """Passes on to the logger `durable` what has a level of its own.

    It is in no table of `logging`, so that two apps with a task of one name do not set each other's level; and so it
    must look for itself at what the table's loggers are told when logging is switched off.
    """

    def __init__(self, level: int) -> None:
        super().__init__(_log.name, level)
        self.parent = _log

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name that logging calls
        return level >= self.level and level > self.manager.disable and not _log.disabled


class ExecutionLog:
    """What an executor says about single executions. A message may hold names and ids, and no payload."""

    def __init__(self, level_of: Callable[[str], int | None]) -> None:
        """`level_of` gives the level of a task's name; None, also for an unknown name: the logger `durable` decides."""
        self._level_of = level_of
        self._loggers: dict[int | None, logging.Logger] = {None: _log}
        self._logger_of: dict[str, logging.Logger] = {}
        """By the task's name: a definition keeps its level."""

    def write(self, level: int, about: _Subject, message: str, *args: object) -> None:
        """Log a message about an execution or a timer; its `extra` names which."""
        logger = self._logger(about.task_name)
        if logger.isEnabledFor(level):
            extra = {"execution_id": about.id, "task_name": about.task_name}
            logger.log(level, message, *args, extra=extra, stacklevel=2)

    def started(self, attempt: Attempt) -> None:
        self._debug(attempt, "attempt %d of %d of execution %s (%s) starts")

    def settled(self, attempt: Attempt, settlement: Settlement) -> None:
        """A turn's end was written."""
        self._debug(attempt, "attempt %d of %d of execution %s (%s) is over: %s", settlement.status)

    def failed(self, attempt: Attempt, kind: str, retry_delay: float | None) -> None:
        """An attempt failed with an error of this kind; None: for good."""
        claimed = attempt.claimed
        self.write(
            logging.ERROR if retry_delay is None else logging.INFO, claimed,
            "attempt %d of %d of execution %s (%s) failed with %s; %s",
            claimed.attempts, claimed.max_attempts, claimed.id, called(attempt), kind,
            "it is not retried" if retry_delay is None else f"it is retried in {retry_delay:.3g} s",
        )  # fmt: skip

    def _debug(self, attempt: Attempt, message: str, *args: object) -> None:
        """Every turn comes here twice, and mostly for nothing: only what is logged is put together."""
        claimed = attempt.claimed
        if self._logger(claimed.task_name).isEnabledFor(logging.DEBUG):
            about = (claimed.attempts, claimed.max_attempts, claimed.id, called(attempt))
            self.write(logging.DEBUG, claimed, message, *about, *args)

    def _logger(self, task_name: str) -> logging.Logger:
        return self._logger_of.get(task_name) or self._find_logger(task_name)

    def _find_logger(self, task_name: str) -> logging.Logger:
        level = self._level_of(task_name)
        found = self._loggers.get(level)
        if found is None:
            assert level is not None
            found = self._loggers[level] = _OwnLevel(level)
        self._logger_of[task_name] = found
        return found


def called(attempt: Attempt) -> str:
    """What people know an execution by, beside its id."""
    return f"task {attempt.claimed.task_name}" if attempt.instance_id is None else f"job {attempt.instance_id}"


def checked_log_level(value: object) -> int | None:
    """The number of a level; raises ConfigurationError for what is none."""
    if value is None:
        return None
    if not isinstance(value, str) or value not in _LEVELS:
        raise ConfigurationError(f"log_level is {shown(value)}; give one of {', '.join(get_args(LogLevel))}, or None")
    return _LEVELS[value]
