"""The store: keys, manifests, and what is kept."""
