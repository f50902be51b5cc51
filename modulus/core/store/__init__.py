"""The store: keys and manifests."""
