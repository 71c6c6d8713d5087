"""An environment for each peer, made at its first use and kept: `<cache>/durable-benchmarks/<peer>-<version>`."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers.children import ProgramFailed, ran
from benchmarks.peers.peer import Peer
from storage_postgres.embedded.binaries import locate_binaries

__all__ = ["Environment", "cache_folder", "is_ready", "node_version", "prepare"]

_HERE = Path(__file__).resolve().parent
_REPOSITORY = _HERE.parent.parent
_INSTALL_S = 600
_STAMP = "installed"


@dataclass(frozen=True, slots=True)
class Environment:
    """How a peer's program is started."""

    command: tuple[str | Path, ...]
    variables: Mapping[str, str] = field(default_factory=dict[str, str])


def cache_folder() -> Path:
    """Where environments are kept: below XDG_CACHE_HOME, or ~/.cache."""
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(chosen) if chosen.startswith("/") else Path.home() / ".cache") / "durable-benchmarks"


def is_ready(peer: Peer, cache: Path) -> bool:
    """Whether nothing has to be installed for it: what was installed is what is asked for now."""
    if peer.requirements is None:
        return True
    stamp = _folder(peer, cache) / _STAMP
    return stamp.is_file() and stamp.read_text() == _wanted(peer)


async def prepare(peer: Peer, cache: Path) -> Environment:
    """Its environment, made if it is not there. Raises ProgramFailed when it cannot be made."""
    folder = _folder(peer, cache)
    if not is_ready(peer, cache):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        await (_install_node if _is_node(peer) else _install_python)(peer, folder)
        # Last, so that what was interrupted is made anew.
        (folder / _STAMP).write_text(_wanted(peer))
    if peer.requirements is None:
        paths = os.pathsep.join(filter(None, (str(_REPOSITORY), os.environ.get("PYTHONPATH"))))
        where = (_HERE / peer.program,) if peer.program.endswith(".py") else ("-m", f"benchmarks.peers.{peer.program}")
        return Environment((sys.executable, *where), {"PYTHONPATH": paths})
    if _is_node(peer):
        return Environment(("node", _HERE / peer.program), {"PACKAGES": str(folder)})
    # Behind what is there already: one command line among the peers calls psql.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, locate_binaries())])
    return Environment((folder / "bin" / "python", _HERE / peer.program), {"PATH": path, "PYTHONPATH": ""})


async def node_version() -> str | None:
    """That of the node that runs programs for it; None where there is none."""
    try:
        return (await ran(["node", "--version"], limit_s=60)).strip().removeprefix("v")
    except ProgramFailed:
        return None


def _folder(peer: Peer, cache: Path) -> Path:
    return cache / f"{peer.name}-{peer.version}"


def _is_node(peer: Peer) -> bool:
    return peer.program.endswith(".mjs")


def _pins(peer: Peer) -> list[Path]:
    assert peer.requirements is not None
    if _is_node(peer):
        return [_HERE / peer.requirements / name for name in ("package.json", "package-lock.json")]
    return [_HERE / "requirements" / peer.requirements]


def _wanted(peer: Peer) -> str:
    """What an environment is made from, in short."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in _pins(peer))).hexdigest()
    return f"{platform.python_version()} {digest}"


async def _install_python(peer: Peer, folder: Path) -> None:
    python = folder / "bin" / "python"
    uv = shutil.which("uv")
    if uv:
        await ran([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], limit_s=_INSTALL_S)
        install: list[str | Path] = [uv, "pip", "install", "--quiet", "--python", python]
    else:
        await ran([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], limit_s=_INSTALL_S)
        install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    await ran([*install, "-r", *_pins(peer)], limit_s=_INSTALL_S)


async def _install_node(peer: Peer, folder: Path) -> None:
    if shutil.which("node") is None:
        raise ProgramFailed("there is no node here")
    for path in _pins(peer):
        shutil.copy(path, folder)
    await ran(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], limit_s=_INSTALL_S, folder=folder)
