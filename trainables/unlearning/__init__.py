"""SISA: shards and slices, placement, requests, cost of forgetting."""
