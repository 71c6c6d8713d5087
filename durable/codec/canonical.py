"""One text for equal values: the order of sets when they are stored, and the hash that idempotency compares."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from typing import Any, cast

from pydantic import RootModel

from durable.codec.rules import children

__all__ = ["hash_json", "with_sorted_sets"]


def hash_json(text: str | bytes) -> str:
    """Return the SHA-256, as 64 hex digits, of a JSON text; the order of keys and the white space do not matter."""
    return hashlib.sha256(_canonical(json.loads(text)).encode()).hexdigest()


def with_sorted_sets(value: object, text: bytes) -> bytes:
    """Return the JSON text of `value` with its sets in a fixed order.

    The order in which Python walks a set of strings differs from process to process, so the same call would have
    another text, hence another hash, in each.
    """
    node = _sorted(value, json.loads(text))
    return json.dumps(node, ensure_ascii=False, separators=(",", ":")).encode()


def _sorted(value: object, node: Any) -> Any:
    """Walk a value and its parsed JSON side by side; where a user's own serializer makes them differ, leave as is."""
    if isinstance(value, RootModel):
        return _sorted(cast("RootModel[object]", value).root, node)
    if isinstance(node, list):
        items = cast("list[object]", node)
        if isinstance(value, (set, frozenset)):
            return sorted(items, key=_canonical)
        parts = list(children(value))
        if not isinstance(value, (list, tuple, deque)) or len(parts) != len(items):
            return items
        return [_sorted(part, item) for (_, part), item in zip(parts, items, strict=True)]
    if isinstance(node, dict):
        return _sorted_object(value, cast("dict[str, Any]", node))
    return node


def _sorted_object(value: object, node: dict[str, Any]) -> dict[str, Any]:
    if isinstance(value, dict):
        parts = list(cast("dict[object, object]", value).values())
        if len(parts) != len(node):
            return node
        return {key: _sorted(part, item) for part, (key, item) in zip(parts, node.items(), strict=True)}
    named = dict(children(value))
    return {key: _sorted(named.get(key), item) for key, item in node.items()}


def _canonical(node: Any) -> str:
    return json.dumps(node, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
