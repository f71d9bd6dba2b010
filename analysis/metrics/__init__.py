"""Pure functions of arrays: rates, scores, probabilities, disparities, and the table of all metrics."""
