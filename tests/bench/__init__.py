"""Measures Modulus against what else does its work, in turn on one machine."""
