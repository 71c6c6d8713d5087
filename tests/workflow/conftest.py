"""Fixtures of the tests of workflows: the app of a service, and virtual time on either storage."""

from __future__ import annotations

from tests.jobs.conftest import app, place, postgres, storage

__all__ = ["app", "place", "postgres", "storage"]
