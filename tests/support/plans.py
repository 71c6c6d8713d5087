"""EXPLAIN (ANALYZE, BUFFERS) of the package's own queries, and what a test asks of such a plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import psycopg
from psycopg import sql

from storage_postgres.plan import Query
from tests.support.statements import numbered

__all__ = ["Explained", "explain"]

_TABLE: Final = "executions"


class Explained:
    """One executed plan."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self._root: Mapping[str, Any] = plan["Plan"]

    @property
    def nodes(self) -> Iterator[Mapping[str, Any]]:
        waiting = [self._root]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += cast(list[Mapping[str, Any]], node.get("Plans", []))

    @property
    def sequential_scans(self) -> list[str]:
        """Whole-table reads of the executions, by the alias they go under."""
        return [node["Alias"] for node in self._scans if node["Node Type"] == "Seq Scan" and node["Actual Loops"]]

    @property
    def rows_examined(self) -> int:
        """Rows of the executions that scans looked at, kept or not, the worst scan of all."""
        return max((_examined(node) for node in self._scans), default=0)

    @property
    def buffers(self) -> int:
        """Pages touched, found in memory or read."""
        return int(self._root["Shared Hit Blocks"] + self._root["Shared Read Blocks"])

    @property
    def rows_updated(self) -> int:
        """Executions that the statement's own update took; that of the parents goes by another alias."""
        return sum(
            int(node["Actual Rows"] * node["Actual Loops"])
            for node in self.nodes
            if node.get("Operation") == "Update" and node["Alias"].startswith("e")
        )

    @property
    def _scans(self) -> Iterator[Mapping[str, Any]]:
        return (
            node for node in self.nodes if node.get("Relation Name") == _TABLE and node["Node Type"].endswith("Scan")
        )


def _examined(node: Mapping[str, Any]) -> int:
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return int((node["Actual Rows"] + removed) * node["Actual Loops"])


def explain(connection: psycopg.Connection[Any], schema: str, query: Query, settings: Mapping[str, str]) -> Explained:
    """Run a query under planner settings, and take back what it wrote."""
    text, names = numbered(query.name, schema)
    values = sql.SQL(", ").join(sql.Literal(query.params[name]) for name in names)
    call = sql.SQL("({})").format(values) if names else sql.SQL("")
    with connection.transaction(force_rollback=True):
        for name, value in settings.items():
            connection.execute("select pg_catalog.set_config(%s, %s, true)", [name, value])
        connection.execute(sql.SQL("prepare explained as {}").format(text))
        try:
            row = connection.execute(
                sql.SQL("explain (analyze, buffers, timing off, format json) execute explained {}").format(call)
            ).fetchone()
        finally:
            connection.execute("deallocate explained")
    assert row is not None
    return Explained(row[0][0])
