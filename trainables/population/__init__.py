"""Population-based training of one network inside one trial."""
