"""Which trials there will be and what they need: expansion, preflight, machines, cost."""
