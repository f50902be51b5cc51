"""Distributions: which family a system is of, and where its packages come from."""
