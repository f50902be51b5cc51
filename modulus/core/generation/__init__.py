"""Generations: what an installed driver consists of, and what is remembered of one."""
