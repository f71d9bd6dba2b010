"""Which examples, and when: keys, imbalance, splits, evaluation sets, partitions, sampling."""
