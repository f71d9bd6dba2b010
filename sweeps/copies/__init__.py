"""Copies of an output folder on other file systems: mirror, remote output, and restoring from them."""
