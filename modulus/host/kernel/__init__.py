"""The running kernel, the next one, and what the kernel says."""
