"""What is yours, put through fairsweep's contracts: pip install 'fairsweep[testing]'; pytest examples/own-model."""

from pathlib import Path

from fairsweep.testing import LearnerContract, MetricContract, ModelContract

HERE = Path(__file__).parent


class TestFaces(ModelContract):
    """The network; its BatchNorm becomes GroupNorm."""

    model = {"name": f"{HERE}/network.py:Faces", "norm": "group"}  # noqa: RUF012


class TestFocal(LearnerContract):
    """The learner."""

    learner = {"kind": f"{HERE}/learner.py:Focal", "epochs": 2, "batch_size": 16}  # noqa: RUF012


class TestScreeningCost(MetricContract):
    """The metric."""

    metric = f"{HERE}/metrics.py:screening_cost"
