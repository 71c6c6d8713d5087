"""Values that no annotation names: what is published, streamed and sent as a signal."""

from __future__ import annotations

from typing import Any, Final, cast

from durable.codec import Codec
from durable.errors import ConfigurationError, SerializationError

__all__ = ["dump_value"]

_PLAIN: Final = frozenset({type(None), bool, int, float, str, list, dict, tuple})


def dump_value(codec: Codec, value: Any, where: str) -> str:
    """The stored text of a value: of its own class, or as JSON has it; raises SerializationError.

    What is inside a list or a dict must be JSON by itself.
    """
    kind = cast("Any", type(value))
    try:
        return codec.value(Any if kind in _PLAIN else kind).dump(value, where)
    except ConfigurationError:
        raise SerializationError(where, f"is a {kind.__name__}, which has no stored form") from None
