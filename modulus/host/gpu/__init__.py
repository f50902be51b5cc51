"""The GPUs and screens of this machine."""
