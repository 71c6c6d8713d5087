"""A census of Python sources: a parent execution starts a child for each file, and adds up what they count."""
