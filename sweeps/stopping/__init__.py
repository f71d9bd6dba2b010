"""When a trial ends before its last iteration by a rule of its own."""
