"""Faults made on purpose: processes killed and frozen while work goes on. Run it as `python -m tests.faults`."""
