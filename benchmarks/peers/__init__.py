"""The same workloads for other libraries: a small program for each, run by an environment of its own."""
