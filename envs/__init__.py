"""Environments: specifications, hash locks, the bootstrap of an edge node, and the builder of the archive."""
