"""Whether the records of a sweep have the documented schema, and whether they agree with one another."""
