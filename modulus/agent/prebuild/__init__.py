"""Work ahead of need: the next kernel, proofs, and the hold of a reboot."""
