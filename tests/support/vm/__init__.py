"""A real node to test on: a virtual machine, emulated, with a stand-in for its GPUs."""
