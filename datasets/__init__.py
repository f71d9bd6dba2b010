"""Prepared images, imbalance plans, samplers and feeds."""
