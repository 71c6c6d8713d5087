"""Payload codecs that are ready to use: compression with zlib."""

from __future__ import annotations

import zlib
from typing import Final

from durable.checks import integer

__all__ = ["ZlibCodec"]

_PLAIN: Final = b"\x00"
_DEFLATED: Final = b"\x01"
_LARGEST: Final = 1 << 30


class ZlibCodec:
    """Compresses payloads of `min_bytes` and more.

    A stored payload that would grow beyond `max_bytes` is refused unread, so that a small row cannot fill the memory.
    `level` is zlib's, from 1 (fast) to 9 (small).

    An encrypting codec has the same two methods. With AES-GCM, `encode` draws a new 12-byte nonce for every payload
    and returns a key id, the nonce and the ciphertext; `decode` looks the key up by its id, so keys can be rotated
    while old rows exist.
    """

    __slots__ = ("_level", "_max_bytes", "_min_bytes")

    def __init__(self, *, min_bytes: int = 1024, max_bytes: int = 64 * 1024 * 1024, level: int = 6) -> None:
        self._min_bytes = integer(min_bytes, "ZlibCodec(min_bytes)", 0, _LARGEST)
        self._max_bytes = integer(max_bytes, "ZlibCodec(max_bytes)", 1024, _LARGEST)
        self._level = integer(level, "ZlibCodec(level)", 1, 9)

    def encode(self, data: bytes, /) -> bytes:
        if len(data) < self._min_bytes:
            return _PLAIN + data
        deflated = zlib.compress(data, self._level)
        return _DEFLATED + deflated if len(deflated) < len(data) else _PLAIN + data

    def decode(self, data: bytes, /) -> bytes:
        """Raise ValueError for bytes that `encode` did not give."""
        form, body = data[:1], data[1:]
        if form == _PLAIN:
            return body
        if form != _DEFLATED:
            raise ValueError("the payload was not written by ZlibCodec")
        inflater = zlib.decompressobj()
        plain = inflater.decompress(body, self._max_bytes)
        if not inflater.eof:
            raise ValueError(f"the payload is cut, or has more than {self._max_bytes} bytes")
        return plain
