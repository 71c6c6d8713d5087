"""A page of the list of jobs costs what it shows, wherever it begins."""

from __future__ import annotations

from typing import Any, Final

import psycopg
import pytest

from durable.job import JobFilter, JobKey, JobKind, JobStatus
from storage_postgres import job_verbs
from storage_postgres.statements import render
from tests.support.plans import explain

PAGE: Final = 10
FILL: Final = """
insert into /*schema*/jobs (id, kind, name, key, created_at, updated_at, dead_count)
select gen_random_uuid(), kind, 'name', lpad(i::text, 6, '0'), now(), now(), (i % 1000 = 999)::int
from generate_series(1, 10000) as i, unnest(array['continuous', 'debounce', 'task']) as kind
"""


@pytest.fixture
def crowded(postgres_control: psycopg.Connection[Any], migrated_schema: str) -> str:
    postgres_control.execute(render(FILL, migrated_schema))
    postgres_control.execute(render("analyze /*schema*/jobs", migrated_schema))
    return migrated_schema


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize(
    ("where", "after"),
    [
        (JobFilter(), None),
        (JobFilter(), JobKey(JobKind.TASK, "name", "005000")),
        (JobFilter(kind=JobKind.TASK), None),
        (JobFilter(kind=JobKind.TASK, name="name"), None),
        (JobFilter(kind=JobKind.DEBOUNCE, name="name"), JobKey(JobKind.DEBOUNCE, "name", "009000")),
        (JobFilter(kind=JobKind.DEBOUNCE), JobKey(JobKind.DEBOUNCE, "name", "009995")),
        (JobFilter(has_dead=True), None),
        (JobFilter(has_dead=True, statuses=tuple(JobStatus)), JobKey(JobKind.DEBOUNCE, "name", "005000")),
        (JobFilter(has_dead=True, kind=JobKind.TASK, name="name"), None),
    ],
)
def test_a_page_reads_little_more_than_it_shows(
    crowded: str, postgres_control: psycopg.Connection[Any], where: JobFilter, after: JobKey | None, mode: str
) -> None:
    query = next(job_verbs.list_jobs(where, limit=PAGE, after=after))
    plan = explain(postgres_control, crowded, query, {"plan_cache_mode": mode, "enable_seqscan": "off"})
    assert plan.buffers < 100


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
def test_a_count_of_dead_letters_reads_what_it_counts(
    crowded: str, postgres_control: psycopg.Connection[Any], mode: str
) -> None:
    query = next(job_verbs.count_jobs(JobFilter(has_dead=True)))
    plan = explain(postgres_control, crowded, query, {"plan_cache_mode": mode, "enable_seqscan": "off"})
    assert plan.buffers < 100
