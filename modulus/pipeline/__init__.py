"""The order of steps, and nothing else: each step is a function of ``host`` or ``core``."""
