"""The output folder of a sweep, written without training anything."""

import pytest

from fairsweep.sweeps.testing.recorded_sweep import RecordedSweep


@pytest.fixture
def recorded(tmp_path):
    """Makes the output folder of a sweep with such a section ``tracking``."""

    def make(tracking, **fields):
        folder = tmp_path / "out"
        folder.mkdir()
        return RecordedSweep(folder, tracking, **fields)

    return make
