"""A build on this machine: what it is made in, what came of it, and what proved it."""
