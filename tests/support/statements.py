"""The package's statements as the server sees them: with numbered parameters, for PREPARE and EXECUTE."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final, NamedTuple

from psycopg import sql

from storage_postgres.statements import SCHEMA_TAG, load, render

__all__ = ["NAMES", "Numbered", "Section", "numbered", "sections", "uncast_parameters"]

NAMES: Final = sorted(load())
_PARAMETER: Final = re.compile(r"%\((\w+)\)s")
_UNCAST: Final = re.compile(r"%\((\w+)\)s(?!::[a-z])")
_SECTION: Final = re.compile(r"^-- (name|fragment): (\w+)\n", re.MULTILINE)


class Numbered(NamedTuple):
    """A statement with $1, $2, …, and the names of its parameters in that order."""

    text: sql.Composed
    names: list[str]


def numbered(name: str, schema: str, text: str | None = None) -> Numbered:
    """`text` stands for the package's own of that name where it is given."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    with_numbers = _PARAMETER.sub(number, load()[name] if text is None else text).replace("%%", "%")
    return Numbered(render(with_numbers, schema), names)


def uncast_parameters(name: str) -> list[str]:
    return _UNCAST.findall(load()[name])


class Section(NamedTuple):
    """A headed part of a .sql file as it is written."""

    file: str
    kind: str
    name: str
    header: str
    """The comment lines right below its name."""
    body: str

    @property
    def writes(self) -> bool:
        return re.search(r"\b(insert into|update|delete from) " + re.escape(SCHEMA_TAG), self.body) is not None


def sections() -> list[Section]:
    folder = files("storage_postgres").joinpath("sql")
    found: list[Section] = []
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.endswith(".sql"):
            text = path.read_text(encoding="utf-8")
            parts = _SECTION.split(text)
            assert not parts[0].strip(), f"{path.name} starts with something outside a section"
            found += [
                Section(path.name, kind, name, *_header_and_body(rest))
                for kind, name, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
            ]
    return found


def _header_and_body(text: str) -> tuple[str, str]:
    lines = text.splitlines()
    length = next((index for index, line in enumerate(lines) if not line.startswith("--")), len(lines))
    return "\n".join(lines[:length]), "\n".join(lines[length:])
