"""The mutations of `python -m tests.mutants` still change the SQL, and into SQL that runs."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import sql

from storage_postgres import migrate, statements
from tests.support.mutations import MUTATIONS, Unmatched, mutate_migrations, mutate_statements
from tests.support.statements import numbered


@pytest.mark.parametrize("name", [name for name, mutation in MUTATIONS.items() if mutation.statements])
def test_a_mutated_statement_still_fits_the_schema(
    name: str, postgres_control: psycopg.Connection[Any], empty_schema: str
) -> None:
    mutation = MUTATIONS[name]
    mutated = mutate_statements(mutation, statements.load())

    for statement in mutation.statements:
        assert mutated[statement] != statements.load()[statement]
        text, _ = numbered(statement, empty_schema, mutated[statement])
        postgres_control.execute(sql.SQL("prepare mutated as {}").format(text))
        postgres_control.execute("deallocate mutated")


@pytest.mark.parametrize("name", [name for name, mutation in MUTATIONS.items() if not mutation.statements])
def test_a_mutated_migration_still_runs(
    name: str, postgres_control: psycopg.Connection[Any], schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutated = mutate_migrations(MUTATIONS[name], migrate._migrations())
    assert mutated != migrate._migrations()
    monkeypatch.setattr(migrate, "_migrations", lambda: mutated)

    assert migrate.migrate(postgres_control, schema) != []


def test_a_mutation_that_changes_nothing_is_an_error() -> None:
    mutation = MUTATIONS["claim has no limit"]._replace(new=" limit %(limit)s::bigint")

    with pytest.raises(Unmatched, match="claim has no limit"):
        mutate_statements(mutation, statements.load())
