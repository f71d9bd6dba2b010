"""Statistical inference: comparisons, trends, fluctuations, selection, unlearning, and composed privacy."""
