"""Ray: one of this machine's own, clusters and their nodes, what workers inherit."""
