"""Kernel modules: loaded, unloaded, and what is in their way."""
