"""Workflows as code: a body that is replayed from its history, and what its clients do with it."""
