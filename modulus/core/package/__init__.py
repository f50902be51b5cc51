"""The vendor's package: its header, its list of files, and what of it is installed."""
