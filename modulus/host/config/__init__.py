"""Settings and profiles, read from files."""
