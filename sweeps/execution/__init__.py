"""Running a sweep: one driver for listed and guided trials, Tune, local Ray and clusters, faults."""
