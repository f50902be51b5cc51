"""The facts by which a driver is judged."""
