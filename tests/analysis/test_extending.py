"""A metric, a figure and a tracker, each added to a copy of the packages by what CONTRIBUTING lists, and used."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("analysis", "datasets", "trainables", "sweeps")

FIGURE = '''
"""The number of trials by learner."""

import numpy as np

from fairsweep.analysis.drawing.drawing import Axis, Bars, Drawing, Panel


def trials_by_learner(results):
    """Draw it."""
    counts = results.trials["learner"].value_counts()
    bars = Bars(list(counts.index), counts.to_numpy(np.float64), "trials", "#336699")
    return Drawing((Panel("trials by learner", (bars,), Axis("learner", style="category"), Axis("trials")),))
'''
TRACKER = '''
"""One line a trial."""


class LinesTracker:
    """Write them; see `Tracker`."""

    is_live = False

    def __init__(self, place):
        self._file = place.folder / "lines.txt"

    def send(self, report, after):
        """Write the name."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a") as file:
            print(report.name, file=file)

    def send_sweep(self, report):
        """Nothing is written of it."""

    def close(self):
        """Nothing is open."""
'''


@pytest.fixture
def tree(tmp_path):
    """A copy of the packages; returns functions that add a file, add a line before another, and run Python in it."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / "fairsweep" / package, ignore=ignored)

    class Tree:
        def file(self, name, text):
            path = tmp_path / "fairsweep" / name
            assert not path.exists()
            path.write_text(text.lstrip())

        def row(self, name, before, row):
            path = tmp_path / "fairsweep" / name
            text = path.read_text()
            assert text.count(before) == 1, before
            path.write_text(text.replace(before, row + before))

        def run(self, *words):
            answer = subprocess.run(
                [sys.executable, *map(str, words)],
                env=os.environ | {"PYTHONPATH": str(tmp_path)},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert answer.returncode == 0, answer.stdout + answer.stderr
            return answer.stdout

    return Tree()


def test_a_metric_is_one_row(tree, faces):
    row = '        Rate("error_rate", "Error rate", "wrong / examples", _wrong, _everything, "lower"),\n'
    tree.row("analysis/metrics/rates.py", '        Rate("base_rate"', row)
    code = """
    import sys
    from fairsweep import analysis
    results = analysis.load(sys.argv[1])
    table = results.frame(["error_rate", "accuracy"], by="tone")
    assert table["low"].notna().all()
    wide = table.pivot_table("value", ["trial", "group"], "metric")
    assert len(wide) and (wide["error_rate"] + wide["accuracy"] - 1).abs().max() < 1e-12
    print(analysis.describe().to_string())
    """
    assert "wrong / examples" in tree.run("-c", _dedented(code), faces.folder)


def test_a_figure_is_one_file_and_one_row(tree, faces):
    tree.file("analysis/figures/trial_counts.py", FIGURE)
    row = "from fairsweep.analysis.figures.trial_counts import trials_by_learner as _mine\n"
    tree.row("analysis/figures/plots.py", "\n__all__ = [", row)
    tree.row("analysis/figures/plots.py", "heat_map = _figure", "trials_by_learner = _figure(_mine)\n")
    code = """
    import sys
    from fairsweep import analysis
    from fairsweep.analysis.figures import plots
    results = analysis.load(sys.argv[1])
    print(list(plots.trials_by_learner(results).data[0].y))
    print(plots.trials_by_learner(results, backend="matplotlib").__class__.__name__)
    """
    said = tree.run("-c", _dedented(code), faces.folder)
    assert "6.0" in said
    assert "Figure" in said


def test_a_tracker_is_one_file_one_row_and_one_field(tree, faces, tmp_path):
    tree.file("sweeps/tracking/lines.py", TRACKER)
    tree.row("sweeps/tracking/trackers.py", '    "tensorboard": ', '    "lines": "lines:LinesTracker",\n')
    field = '    lines: _FILES = Field(default=None, description="`true` for lines.")\n'
    tree.row("sweeps/spec/tracking_section.py", "    tensorboard: _TENSORBOARD", field)
    shutil.copytree(faces.folder, tmp_path / "sweep")
    code = """
    import sys
    from pathlib import Path
    from fairsweep.analysis.records.files import read_json, write_json
    path = Path(sys.argv[1]) / "sweep.json"
    described = read_json(path)
    described.setdefault("sweep", {})["tracking"] = ["lines"]
    write_json(path, described)
    """
    tree.run("-c", _dedented(code), tmp_path / "sweep")
    tree.run("-m", "fairsweep.sweeps", "track", tmp_path / "sweep")
    lines = (tmp_path / "sweep" / "tracking" / "lines.txt").read_text().split()
    assert sorted(set(lines)) == sorted(faces.names)


def _dedented(code):
    return "\n".join(line.removeprefix("    ") for line in code.splitlines())
