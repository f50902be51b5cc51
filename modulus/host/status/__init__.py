"""An instance's state, counts and metrics, for others to read."""
