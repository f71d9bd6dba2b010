"""One trial from its config to its records: state, checkpoints, secret, data, deletions."""
