"""GPUs: which are there, and which driver supports them."""
