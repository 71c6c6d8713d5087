"""The kinds of jobs: named, keyed executions that keep a state between their turns."""
