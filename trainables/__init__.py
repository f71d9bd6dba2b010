"""How one trial learns: models, learners, privacy plans, and the Ray Tune adapter.

Names are imported when they are first used: whoever only reads the state of a trial loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairsweep.analysis.lazy import lazy_names

if TYPE_CHECKING:
    from fairsweep.trainables.learners import LEARNERS, build_learner, check, plan_privacy, twin_of
    from fairsweep.trainables.learning.iteration_report import GroupDiagnostic, IterationReport
    from fairsweep.trainables.learning.learner import Learner, LearningTask, TrialKeys
    from fairsweep.trainables.learning.learner_config import LearnerConfig
    from fairsweep.trainables.models.model import ModelConfig, build_model
    from fairsweep.trainables.models.models import MODELS
    from fairsweep.trainables.privacy.plan import PrivacyPlan
    from fairsweep.trainables.privacy.privacy_statement import PrivacyStatement
    from fairsweep.trainables.trained.export import export_model
    from fairsweep.trainables.trained.trained_model import TrainedModel, load_model

__all__ = [
    "LEARNERS",
    "MODELS",
    "GroupDiagnostic",
    "IterationReport",
    "Learner",
    "LearnerConfig",
    "LearningTask",
    "ModelConfig",
    "PrivacyPlan",
    "PrivacyStatement",
    "TrainedModel",
    "TrialKeys",
    "build_learner",
    "build_model",
    "check",
    "export_model",
    "load_model",
    "plan_privacy",
    "twin_of",
]

_HOMES = {
    "LEARNERS": "learners",
    "GroupDiagnostic": "learning.iteration_report",
    "IterationReport": "learning.iteration_report",
    "Learner": "learning.learner",
    "LearnerConfig": "learning.learner_config",
    "LearningTask": "learning.learner",
    "MODELS": "models.models",
    "ModelConfig": "models.model",
    "PrivacyPlan": "privacy.plan",
    "PrivacyStatement": "privacy.privacy_statement",
    "TrainedModel": "trained.trained_model",
    "TrialKeys": "learning.learner",
    "build_learner": "learners",
    "build_model": "models.model",
    "check": "learners",
    "export_model": "trained.export",
    "load_model": "trained.trained_model",
    "plan_privacy": "learners",
    "twin_of": "learners",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
