"""What the exit codes mean, and which error gives which."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from durable.errors import (
    ConfigurationError,
    DurableError,
    EmbeddedError,
    SchemaNotInstalled,
    SchemaTooNew,
    SchemaTooOld,
    StorageUnavailable,
)

__all__ = ["EXIT_CODES", "Exit", "exit_of"]


class Exit(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 3
    SCHEMA = 4
    DEFECTS = 5
    INTERRUPTED = 130
    BROKEN_PIPE = 141


EXIT_CODES: Final = """\
exit codes:
  0    ok
  1    there is no such execution, it ended without a result, or it refused what was asked
  2    wrong usage or set-up
  3    the database is unavailable
  4    the schema is not installed, too old or too new; see `durable migrate`
  5    doctor found defects and they are still there
  130  interrupted; an executor that was made to stop at once: 130, or 143 after SIGTERM
"""

_CODES: Final[tuple[tuple[type[DurableError] | tuple[type[DurableError], ...], Exit], ...]] = (
    ((StorageUnavailable, EmbeddedError), Exit.UNAVAILABLE),
    ((SchemaNotInstalled, SchemaTooOld, SchemaTooNew), Exit.SCHEMA),
    (ConfigurationError, Exit.USAGE),
)


def exit_of(error: DurableError) -> Exit:
    return next((code for kinds, code in _CODES if isinstance(error, kinds)), Exit.FAILED)
