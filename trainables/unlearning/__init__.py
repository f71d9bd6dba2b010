"""SISA: shards and slices, placement, requests, what forgetting costs."""
