"""Kernel modules that are in the way: rivals, users, an initramfs's."""
