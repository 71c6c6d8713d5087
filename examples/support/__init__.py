"""What the examples need beside durable, and a real project would take from a library."""
