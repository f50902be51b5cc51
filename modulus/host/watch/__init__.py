"""Events of the kernel: inotify and uevents."""
