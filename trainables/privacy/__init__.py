"""Guarantees: events, accounting, the plan of a private training, clipping, noise, statements."""
