"""Profiles: what a driver is, as data."""
