"""Load the named statements of sql/*.sql and set the schema's name into them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final, LiteralString, NamedTuple, cast

from psycopg import sql

__all__ = ["SCHEMA_TAG", "Numbered", "Statements", "load", "numbered", "render"]

SCHEMA_TAG: Final = "/*schema*/"
_HEADER: Final = re.compile(r"^-- (name|fragment): (\w+)\n", re.MULTILINE)
_INCLUDE: Final = re.compile(r"/\*include (\w+)\*/")
_MARK: Final = re.compile(rb"%(?:\((\w+)\)s|%)")


def _sections(text: str) -> list[tuple[str, str, str]]:
    """(kind, name, body) of each headed section, without comments and indentation.

    psycopg caches the conversion of statements up to 4096 characters only, so what a server does not need goes.
    """
    marks = list(_HEADER.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [(mark[1], mark[2], _squeeze(text[mark.end() : end])) for mark, end in zip(marks, ends, strict=True)]


def _squeeze(body: str) -> str:
    lines = (line.split("--", 1)[0].strip() for line in body.splitlines())
    return " ".join(line for line in lines if line).rstrip("; ")


def render(text: str, schema: str) -> sql.Composed:
    """SQL text with each schema tag replaced by the quoted schema."""
    # The texts are files of this package, never built from values; the schema is composed as an identifier.
    # (To mypy a LiteralString is a str, so the cast says nothing; to pyright it is not.)
    parts = [sql.SQL(cast(LiteralString, part)) for part in text.split(SCHEMA_TAG)]  # type: ignore[redundant-cast]
    return sql.SQL("").join(_interleave(parts, sql.Identifier(schema) + sql.SQL(".")))


def _interleave(parts: list[sql.SQL], tag: sql.Composed) -> list[sql.Composable]:
    woven: list[sql.Composable] = [parts[0]]
    for part in parts[1:]:
        woven += [tag, part]
    return woven


class Numbered(NamedTuple):
    """A statement as the server takes it: the parameters are $1, $2 … in the order of their names here."""

    text: bytes
    parameters: tuple[str, ...]


class Statements:
    """Every statement of the package by name, as bytes for one schema."""

    def __init__(self, schema: str) -> None:
        self._by_name = _rendered(schema)

    def __getitem__(self, name: str) -> bytes:
        return self._by_name[name]

    def numbered(self, name: str) -> Numbered:
        return numbered(self._by_name[name])

    @property
    def by_name(self) -> Mapping[str, bytes]:
        return self._by_name


@lru_cache(maxsize=16)
def _rendered(schema: str) -> Mapping[str, bytes]:
    return {name: render(text, schema).as_bytes(None) for name, text in load().items()}


def numbered(text: bytes) -> Numbered:
    """The text with numbers for the names, and without what psycopg asks to be doubled."""
    places: dict[bytes, int] = {}

    def number(mark: re.Match[bytes]) -> bytes:
        name = mark[1]
        return b"%" if name is None else b"$%d" % places.setdefault(name, len(places) + 1)

    return Numbered(_MARK.sub(number, text), tuple(name.decode() for name in places))


@cache
def load() -> Mapping[str, str]:
    """The text of every named statement, fragments filled in, the schema tag still in place."""
    sections = [
        section
        for path in sorted(files("storage_postgres").joinpath("sql").iterdir(), key=lambda path: path.name)
        if path.name.endswith(".sql")
        for section in _sections(path.read_text(encoding="utf-8"))
    ]
    fragments = {name: body for kind, name, body in sections if kind == "fragment"}

    def filled_in(body: str) -> str:
        return _INCLUDE.sub(lambda match: filled_in(fragments[match[1]]), body)

    return {name: filled_in(body) for kind, name, body in sections if kind == "name"}
