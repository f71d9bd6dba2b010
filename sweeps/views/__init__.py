"""Showing a run: terminal, plain lines, notebook, live page."""
