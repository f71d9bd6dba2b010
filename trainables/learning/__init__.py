"""What a learner is: its protocol, its task, roles, evaluation, measures."""
