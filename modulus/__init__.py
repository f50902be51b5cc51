"""Modulus keeps a node's kernel drivers matching its kernel."""

__version__ = "0.1.0"
