"""apt: what the node's own says, and a private one that has the distribution's archive."""
