"""Groups set against a reference group, compared within strata of a further attribute, and counted with weights."""
