"""Compiled objects that serve another kernel, and the rules for it."""
