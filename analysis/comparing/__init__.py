"""Two sweeps side by side: which of their settings match, how their results differ, the page that says so."""
