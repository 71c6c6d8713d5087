"""Workflows as code: a body that is replayed from its history."""
