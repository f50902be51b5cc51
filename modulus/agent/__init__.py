"""What stays resident: it has ``up`` run, tells systemd, and tries again."""
