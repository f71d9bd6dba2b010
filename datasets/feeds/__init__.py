"""Batches from a plan of ids: resident in memory, or streamed."""
