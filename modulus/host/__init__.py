"""The edges: files, processes, the network and the kernel, one module each."""
