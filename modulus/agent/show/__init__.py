"""The agent's state, for the bus, files and systemd."""
