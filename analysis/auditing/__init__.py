"""Empirical privacy: lower bounds on epsilon from canaries, and membership inference by group."""
