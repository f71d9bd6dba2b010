"""What can be concluded: comparisons, trends, fluctuations, selection, unlearning, the sum of privacy."""
