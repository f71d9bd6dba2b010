"""Comparison of two sweeps: matching of settings and trials, differences in results, and an HTML page."""
