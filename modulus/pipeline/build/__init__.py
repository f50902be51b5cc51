"""From a driver's package to a stored build."""
