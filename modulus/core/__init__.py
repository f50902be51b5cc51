"""Pure rules: no module below here reads a file, a socket or a clock."""
