"""Looks at instances and changes nothing."""
