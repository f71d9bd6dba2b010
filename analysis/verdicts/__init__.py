"""Questions of a sweep and their verdicts, one family for all that a report tells."""
