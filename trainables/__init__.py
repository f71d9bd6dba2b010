"""How one trial learns: models, learners, privacy plans, and the Ray Tune adapter."""

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
