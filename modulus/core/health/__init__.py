"""Whether a driver works: facts in, findings out."""
