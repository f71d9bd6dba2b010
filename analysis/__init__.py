"""Records of trials, and what can be concluded from them: rates, disparities, intervals, plots, report."""
