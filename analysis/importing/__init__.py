"""Results made of what other programs have predicted."""
