"""Noise and delta outside of what the accountants can compute are refused in a line."""

import pytest
from pydantic import ValidationError

from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.federated.fedavg_config import DpfedavgConfig
from fairsweep.trainables.unlearning.request_stream import RequestsConfig


@pytest.mark.parametrize("kind", [DpsgdConfig, DpfedavgConfig])
@pytest.mark.parametrize("noise_multiplier", [1e300, 1e-300, 1e-5, 1e7])
def test_noise_without_a_meaning_is_refused(kind, noise_multiplier):
    with pytest.raises(ValidationError, match=r"a noise multiplier must be 0 .* or between 0\.01 and 1e\+06, but got"):
        kind(name="x", noise_multiplier=noise_multiplier)


@pytest.mark.parametrize("kind", [DpsgdConfig, DpfedavgConfig])
@pytest.mark.parametrize("delta", [1e-15, 1e-300])
def test_a_delta_below_the_accountants_rounding_is_refused(kind, delta):
    with pytest.raises(ValidationError, match=r"delta must be at least 1e-12 and below 1, but got 1e-"):
        kind(name="x", epsilon=3.0, delta=delta)


def test_a_count_of_requests_may_be_null(tmp_path):
    (tmp_path / "ids.csv").write_text("id\n3\n7\n")
    assert RequestsConfig(count=None, file=tmp_path / "ids.csv").count == 2
    assert RequestsConfig(count=None).count == 0
