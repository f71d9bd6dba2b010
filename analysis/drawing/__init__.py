"""Drawings without data: marks, axes, colours, and the two libraries that draw them."""
