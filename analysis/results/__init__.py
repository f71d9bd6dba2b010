"""A sweep as tidy tables: trials, pairs, evaluations, rates, disparities, replicates, differences."""
