"""Privacy accounting: events, what they cost alone, composed and in groups, and the noise that a budget affords."""
