"""Device nodes: looked at, made and mended."""
