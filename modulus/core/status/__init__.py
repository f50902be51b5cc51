"""What is told of an instance: its state, its metrics, and how it is shown."""
