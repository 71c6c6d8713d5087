"""Keep the password of a DSN out of what is printed.

A driver never prints what it took for the password. But a password that holds @ or / without being percent-encoded is
split in the wrong place, and a part of it then stands in an error message as the name of a host or a port.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["redacted"]

_URI: Final = re.compile(r"^[a-z0-9+]+://[^:/@]*:(?P<password>.*)@", re.IGNORECASE | re.DOTALL)
_WORD: Final = re.compile(r"password\s*=\s*('(?:[^'\\]|\\.)*'|[^\s&]+)", re.IGNORECASE)
_SPLIT: Final = re.compile(r"[@/:?#&]")


def redacted(text: str, dsn: str | None) -> str:
    """`text` with every part of the DSN's password replaced by ***, as far as it stands there as a word."""
    if dsn is None:
        return text
    secrets = {found.strip("'") for found in _WORD.findall(dsn)}
    uri = _URI.match(dsn)
    if uri is not None and any(mark in uri["password"] for mark in "@/"):
        secrets |= {uri["password"], *_SPLIT.split(uri["password"])}
    for secret in sorted(secrets - {""}, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    return text
