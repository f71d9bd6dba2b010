"""Arbitrariness of predictions: how far trainings, or settings that are equally good, differ in what they decide."""
