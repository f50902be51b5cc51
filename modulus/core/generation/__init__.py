"""Generations: what a driver consists of, what is remembered of one, and which stay."""
