"""What is said: to the journal, to systemd, to a terminal."""
