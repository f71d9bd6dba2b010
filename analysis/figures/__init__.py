"""Figures of a sweep: one module per kind of figure, and `plots` with all of them."""
