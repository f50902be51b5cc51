"""Events of the kernel: inotify, uevents, its messages."""
