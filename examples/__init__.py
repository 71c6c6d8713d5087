"""Programs to run and to read: each shows one idea, and proves what it shows."""
