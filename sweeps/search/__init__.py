"""Which settings are tried and which trials end early: samplers, studies, schedulers, stopping rules."""
