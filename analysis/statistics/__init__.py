"""Uncertainty of arrays: intervals, effects, tests and their corrections, resampling, components of variance."""
