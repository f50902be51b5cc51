"""A file for each command, imported when it is asked for: ``run`` does it."""
