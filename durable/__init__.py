"""Durable executions for Python whose only server is Postgres."""
