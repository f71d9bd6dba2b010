"""The contracts that users inherit: fairsweep's own pass them, and what breaks one fails it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fairsweep.analysis.metrics.scores import SCORES
from fairsweep.sweeps.testing import MetricContract, TrackerContract

EXAMPLE = Path(__file__).parents[3] / "examples/own-model"
BAD = """
from pathlib import Path

from fairsweep.testing import MetricContract

class TestLucky(MetricContract):
    metric = f"{Path(__file__).parent}/lucky.py:lucky"
"""


@pytest.mark.parametrize("metric", list(SCORES))
class TestScores(MetricContract):
    test_its_disparities_stand_beside_it = None  # differences between classes have none


class TestFiles(TrackerContract):
    tracker = "files"
    section = {"pictures": False}  # noqa: RUF012


def test_the_example_passes_in_a_folder_elsewhere_and_a_metric_that_draws_does_not(tmp_path):
    folder = shutil.copytree(EXAMPLE, tmp_path / "my work")
    (folder / "lucky.py").write_text("from random import random\ndef lucky(counts): return 0 * counts.tp + random()\n")
    (folder / "test_bad.py").write_text(BAD)
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 failed, 17 passed" in answer.stdout, answer.stdout
    assert "test_bad.py::TestLucky::test_an_entry_does_not_depend_on_those_beside_it" in answer.stdout
