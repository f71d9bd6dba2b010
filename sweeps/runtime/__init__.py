"""Ray: a private local instance, clusters and their nodes, and the environment of workers."""
