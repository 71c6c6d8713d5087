"""One app's way to store values: its limits and its payload codec, given to every shape and signature."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar, overload

from durable.codec.canonical import hash_json
from durable.codec.failure import dump_error, error_info
from durable.codec.format import format_of
from durable.codec.limits import Limits
from durable.codec.seal import PayloadCodec, Seal
from durable.codec.shape import Shape
from durable.codec.signature import Signature
from durable.errors import ErrorInfo, SerializationError
from durable.stored_errors import load_error

__all__ = ["Codec"]

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Codec:
    """Makes the shapes and signatures of one app; immutable, and usable from any thread."""

    __slots__ = ("_seal", "limits")

    def __init__(self, limits: Limits | None = None, hook: PayloadCodec | None = None) -> None:
        """Without `limits` the defaults hold; without `hook` payloads are stored as plain JSON."""
        self.limits = limits or Limits()
        self._seal = Seal(self.limits, hook)

    @overload
    def value(self, annotation: type[T], where: str = ...) -> Shape[T]: ...

    @overload
    def value(self, annotation: Any, where: str = ...) -> Shape[Any]: ...

    def value(self, annotation: Any, where: str = "a stored value") -> Shape[Any]:
        """Return the shape of an annotation's values; `where` begins the ConfigurationError of an unusable one."""
        limits = self.limits
        return Shape(lambda: format_of(annotation, where, limits), self._seal)

    def signature(self, function: Callable[..., Any], *, skip_first: bool = False, name: str = "") -> Signature:
        """Return the signature of a task's function; see Signature for what it raises, and when."""
        return Signature(function, self.limits, self._seal, skip_first=skip_first, name=name)

    def payload_hash(self, text: str) -> str:
        """Return 64 hex digits that are equal for two stored texts exactly if their JSON is, whatever its key order.

        The hash is of the plain JSON also when a payload codec encrypts it: who reads the hash can test a guess.
        """
        return hash_json(self._seal.open(text, "input"))

    def error_info(self, error: BaseException, *, is_retryable: bool) -> ErrorInfo:
        """Return what a record keeps of an exception, cut to the limit; never fails."""
        return error_info(error, is_retryable=is_retryable, max_bytes=self.limits.max_error_bytes)

    def dump_error(self, error: BaseException | ErrorInfo, *, is_retryable: bool = True) -> str:
        """Return the text to store for an error; never fails.

        If the payload codec fails, the type is stored without the message, which nobody allowed to be stored plainly.
        """
        text = dump_error(error, is_retryable=is_retryable, max_bytes=self.limits.max_error_bytes)
        if self._seal.hook is None:
            return text
        try:
            return self._seal.close(text.encode(), "error")
        except SerializationError as broken:
            _log.error("an error is stored without its message: %s", broken)
            kept = _parsed(text)
            bare = ErrorInfo(kept.type, "the message is lost: the payload codec failed", kept.is_retryable)
            return dump_error(bare, is_retryable=is_retryable, max_bytes=self.limits.max_error_bytes)

    def load_error(self, text: str) -> ErrorInfo:
        """Return a stored error; one that cannot be read is of type `unreadable`, so that showing it always works."""
        try:
            opened = self._seal.open(text, "error")
            plain = opened if isinstance(opened, str) else opened.decode()
        except ValueError as error:  # SerializationError and UnicodeDecodeError
            return ErrorInfo("unreadable", f"the stored {error}", is_retryable=False)
        return _parsed(plain)


def _parsed(text: str) -> ErrorInfo:
    error = load_error(text)
    assert error is not None, "only the error of no text is None"
    return error
