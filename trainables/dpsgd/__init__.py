"""DP-SGD: per-example clipping and noise, its samplers, its diagnostics by group."""
