"""The figures of the last run of each workload, kept in a file beside this one, from which RESULTS.md is made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

__all__ = ["FOLDER", "keep", "kept", "peers"]

FOLDER: Final = Path(__file__).resolve().parent
_RECORD: Final = "results.json"
_PEERS: Final = "peers.json"


def keep(results: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any], folder: Path = FOLDER) -> None:
    """Replace what the file has of these workloads; others keep the figures, and the day, of their own last run."""
    measured_on = datetime.now(UTC).date().isoformat()
    fresh = {name: {**result, **facts, "measured_on": measured_on} for name, result in results.items()}
    text = json.dumps({**kept(folder), **fresh}, indent=1, ensure_ascii=False)
    (folder / _RECORD).write_text(text + "\n", encoding="utf-8")


def kept(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """The last results, by workload."""
    return _read(folder / _RECORD)


def peers(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """What the last comparison found, by library, then by workload; empty where there was none."""
    found = _read(folder / _PEERS).get("peers", {})
    return {name: peer["workloads"] for name, peer in found.items()}


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
