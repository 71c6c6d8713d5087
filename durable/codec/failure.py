"""The stored form of an exception: it always works, whatever the exception does, and never exceeds the limit."""

from __future__ import annotations

import json
import traceback
from typing import Final, cast

from durable.errors import ErrorInfo
from durable.stored_errors import store_error

__all__ = ["dump_error", "error_info"]

_DEEPEST_FRAMES: Final = -30
_LONGEST_TYPE: Final = 200
_SHOWN_PARTS: Final = 5

# Postgres cannot hold NUL, and the other control characters would act on the terminal that shows the error.
_VISIBLE: Final = {code: f"\\x{code:02x}" for code in (*range(32), 127) if chr(code) not in "\n\t"}


def error_info(error: BaseException, *, is_retryable: bool, max_bytes: int) -> ErrorInfo:
    """Return what a record keeps of an exception: class name, message and the end of its traceback, cut to size.

    Never raises for an Exception raised by the exception's own methods.
    """
    whole = ErrorInfo(type(error).__name__, _message(error), is_retryable, _traceback(error))
    return _cut(whole, max_bytes)


def dump_error(error: BaseException | ErrorInfo, *, is_retryable: bool, max_bytes: int) -> str:
    """Return the text to store; `is_retryable` is ignored for an ErrorInfo, which has its own."""
    if isinstance(error, BaseException):
        error = error_info(error, is_retryable=is_retryable, max_bytes=max_bytes)
    return store_error(_cut(error, max_bytes))


def _message(error: BaseException) -> str:
    try:
        if isinstance(error, BaseExceptionGroup):
            return _of_group(cast("BaseExceptionGroup[BaseException]", error))
        return str(error)
    except Exception as broken:
        return f"(the message is lost: its __str__ raised {type(broken).__name__})"


def _of_group(group: BaseExceptionGroup[BaseException]) -> str:
    """With the errors inside, whose types and messages say what happened; the group's own says how many there are."""
    shown = [f"{type(each).__name__}: {_message(each)}" for each in group.exceptions[:_SHOWN_PARTS]]
    more = len(group.exceptions) - len(shown)
    return f"{group}: {'; '.join(shown)}{f'; and {more} more' if more else ''}"


def _traceback(error: BaseException) -> str | None:
    try:
        return "".join(traceback.format_exception(error, limit=_DEEPEST_FRAMES))
    except Exception:  # formatting runs the exception's own code; an error without a traceback is better than none
        return None


def _cut(info: ErrorInfo, max_bytes: int) -> ErrorInfo:
    """Share the limit: the type is short, the message gets up to a third, and the traceback the rest."""
    name = _fit(info.type, min(_LONGEST_TYPE, max_bytes // 5), keep_end=False)
    message = _fit(info.message, max_bytes // 3, keep_end=False)
    bare = ErrorInfo(name, message, info.is_retryable)
    room = max_bytes - len(store_error(bare).encode()) - len(', "traceback": ""')
    lines = None if info.traceback is None else _fit(info.traceback, room, keep_end=True)
    return ErrorInfo(name, message, info.is_retryable, lines)


def _fit(text: str, room: int, *, keep_end: bool) -> str:
    """Give storable text of at most `room` bytes of JSON; the end of a traceback says more than its beginning."""
    part = text[-room:] if keep_end else text[:room]
    clean = part.translate(_VISIBLE).encode(errors="backslashreplace").decode()
    if len(part) == len(text) and _size(clean) <= room:
        return clean
    raw = clean.encode()
    keep = room - len(_CUT.encode())
    while keep > 0:
        kept = (raw[-keep:] if keep_end else raw[:keep]).decode(errors="ignore")
        fitting = _CUT + kept if keep_end else kept + _CUT
        excess = _size(fitting) - room
        if excess <= 0:
            return fitting
        keep -= excess  # escapes make the JSON longer than the text, so one step is rarely enough
    return ""


_CUT: Final = " […] "


def _size(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode()) - 2
