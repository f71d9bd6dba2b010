"""Learners of one architecture that train side by side: one operation for the steps of all."""
