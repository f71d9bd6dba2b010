"""How one trial learns: models, learners, privacy plans, and the Ray Tune adapter.

Names are imported when they are first used: whoever only reads the state of a trial loads no torch.
"""

from typing import TYPE_CHECKING

from fairsweep.analysis.lazy import lazy_names

if TYPE_CHECKING:
    from fairsweep.trainables.learner import GroupDiagnostic, IterationReport, Learner, LearningTask, TrialKeys
    from fairsweep.trainables.learners import LEARNERS, LearnerConfig, build_learner, check, plan_privacy, twin_of
    from fairsweep.trainables.models import ModelConfig, build_model
    from fairsweep.trainables.privacy import PrivacyPlan
    from fairsweep.trainables.privacy_statement import PrivacyStatement

__all__ = [
    "LEARNERS",
    "GroupDiagnostic",
    "IterationReport",
    "Learner",
    "LearnerConfig",
    "LearningTask",
    "ModelConfig",
    "PrivacyPlan",
    "PrivacyStatement",
    "TrialKeys",
    "build_learner",
    "build_model",
    "check",
    "plan_privacy",
    "twin_of",
]

_HOMES = {
    "LEARNERS": "learners",
    "GroupDiagnostic": "learner",
    "IterationReport": "learner",
    "Learner": "learner",
    "LearnerConfig": "learners",
    "LearningTask": "learner",
    "ModelConfig": "models",
    "PrivacyPlan": "privacy",
    "PrivacyStatement": "privacy_statement",
    "TrialKeys": "learner",
    "build_learner": "learners",
    "build_model": "models",
    "check": "learners",
    "plan_privacy": "learners",
    "twin_of": "learners",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
