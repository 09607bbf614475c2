"""A single-node Hadoop of real daemons on loopback, for machines without a cluster and for tests."""
