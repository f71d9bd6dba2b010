"""How one trial learns: models, learners, privacy plans, and the Ray Tune adapter."""
