"""Workflows as code, on both storages."""
