"""Gaps between groups in several metrics at once: verdicts on their differences, and whether one predicts another."""
