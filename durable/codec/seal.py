"""The last step before a payload is stored, and the first after it is read: the user's codec hook."""

from __future__ import annotations

import base64
import binascii
import logging
from typing import Final, Protocol

from durable.codec.limits import Limits
from durable.errors import SerializationError

__all__ = ["PayloadCodec", "Seal"]

_log = logging.getLogger(__name__)

# No JSON text starts with a tilde, so plain payloads and sealed ones can stand in one column: a hook can be added or
# dropped while old rows are still there.
_MARKER: Final = "~codec:"


class PayloadCodec(Protocol):
    """Compresses or encrypts every stored payload: inputs, results, step results, states, signals and errors.

    Both methods are called from any thread, without any lock held, and must not block for long. `decode` is given
    what `encode` of this or an earlier deployment returned, so a key or format needs a version inside the bytes.
    """

    def encode(self, data: bytes, /) -> bytes:
        """Return the bytes to store for a payload's JSON."""
        ...

    def decode(self, data: bytes, /) -> bytes:
        """Return the JSON; raise any exception if that is impossible."""
        ...


class Seal:
    """Turns the JSON bytes of a payload into the text to store, and back."""

    __slots__ = ("_limits", "hook")

    def __init__(self, limits: Limits, hook: PayloadCodec | None) -> None:
        self._limits = limits
        self.hook = hook

    def close(self, data: bytes, path: str) -> str:
        """Return the text to store; raises SerializationError, naming `path`, if the hook fails."""
        if len(data) > self._limits.warn_payload_bytes:
            limit = self._limits.max_payload_bytes
            _log.warning("%s takes %d bytes as JSON; above %d it will be refused", path, len(data), limit)
        if self.hook is None:
            return data.decode()
        try:
            sealed = self.hook.encode(data)
        except Exception as error:
            raise SerializationError(path, f"could not be encoded: {_hook_failure(self.hook, error)}") from error
        return _MARKER + base64.b64encode(sealed).decode("ascii")

    def open(self, text: str, path: str) -> str | bytes:
        """Return the JSON of a stored text; raises SerializationError, naming `path`, if no hook can decode it."""
        if not text.startswith(_MARKER):
            return text
        if self.hook is None:
            raise SerializationError(
                path, "was stored through a payload codec, and this app has none; give it the same"
            )
        try:
            return self.hook.decode(base64.b64decode(text[len(_MARKER) :], validate=True))
        except binascii.Error:
            raise SerializationError(path, "is damaged: what follows the codec's mark is no base64") from None
        except Exception as error:
            raise SerializationError(path, f"could not be decoded: {_hook_failure(self.hook, error)}") from error


def _hook_failure(hook: PayloadCodec, error: Exception) -> str:
    return f"{type(hook).__name__} raised {type(error).__name__}"
