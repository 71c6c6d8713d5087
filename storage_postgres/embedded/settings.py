"""The server's settings: defaults for development, and what the durable mode must not lose."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from storage_postgres.embedded.binaries import Binaries

__all__ = ["choose_settings", "find_weaker"]

DEFAULTS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    # Otherwise initdb writes down whatever zone the machine has, and results print differently elsewhere.
    "timezone": "UTC",
    "log_timezone": "UTC",
}
SAFEGUARDS = ("fsync", "full_page_writes", "synchronous_commit")
STATISTICS = "pg_stat_statements"


def choose_settings(binaries: Binaries, chosen: Mapping[str, str], *, is_durable: bool) -> dict[str, str]:
    """Defaults, then what the caller chose. Without durability a crash of the machine may ruin the data."""
    statistics = {"shared_preload_libraries": STATISTICS} if binaries.carries(STATISTICS) else {}
    safeguards = {} if is_durable else dict.fromkeys(SAFEGUARDS, "off")
    return DEFAULTS | statistics | safeguards | dict(chosen)


def find_weaker(data: Path, wanted: Mapping[str, str]) -> list[str]:
    """The safeguards that the server running on `data` was started without, although `wanted` keeps them."""
    options = shlex.split((data / "postmaster.opts").read_text())
    running = dict(option.split("=", 1) for option in options if "=" in option)
    return [name for name in SAFEGUARDS if running.get(name) == "off" and wanted.get(name) != "off"]
