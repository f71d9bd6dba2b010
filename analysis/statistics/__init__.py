"""Uncertainty of arrays: intervals, simultaneous intervals, permutation, bootstrap draws, components of variance."""
