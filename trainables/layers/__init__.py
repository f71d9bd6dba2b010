"""Layers that take the place of a network's own: norms, dropout, heads; and which of a network's layers are trained."""
