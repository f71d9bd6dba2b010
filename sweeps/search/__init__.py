"""How search dimensions get their values."""
