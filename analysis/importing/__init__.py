"""Exchange with other programs: results made of their predictions, and predictions of a sweep for fairlearn."""
