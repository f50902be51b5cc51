"""Device nodes: which should be there, and what differs."""
