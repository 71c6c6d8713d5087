"""Tests of the testing kit: virtual time, what was enqueued, and the pytest plugin."""
