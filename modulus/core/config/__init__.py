"""Settings: their names, types, defaults and layers."""
