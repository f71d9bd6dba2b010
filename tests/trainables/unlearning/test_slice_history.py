"""Names of slices: what they are hashes of stays, so that trained slices are found again by later versions."""

import hashlib

import pytest

from fairsweep.trainables.unlearning.sisa_config import SisaConfig
from fairsweep.trainables.unlearning.slice_history import recipe_of

ADAM = {"name": "adam", "lr": 6e-4, "milestones": [0.4, 0.6], "milestone_factor": 0.2}
PRIVATE = {"kind": "dpsgd", "noise_multiplier": 1.0, "delta": 1e-5, "optimizer": {"momentum": 0.5}}


@pytest.mark.parametrize(
    ("inner", "known"),
    [({"kind": "sgd", "optimizer": ADAM}, "d408f6a8974e85db"), (PRIVATE, "10d44e50ff020f3d")],
    ids=["sgd", "dpsgd"],
)
def test_slices_of_earlier_versions_keep_their_names(make_task, inner, known):
    """Of a new field in an inner learner's config nothing may be said at its default: see `LearnerConfig.later`."""
    recipe = recipe_of(SisaConfig(inner=inner), make_task("linear"))
    assert hashlib.sha256(recipe.encode()).hexdigest()[:16] == known
