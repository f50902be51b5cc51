"""The store on disk: entries, compressed objects, deltas."""
