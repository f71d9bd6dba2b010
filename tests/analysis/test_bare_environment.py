"""Results open where neither torch nor ray is installed, and what draws or tests is imported when it is used."""

import subprocess
import sys

BARRED = """
import sys

class Barred:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "ray", "opacus"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Barred())
import fairsweep.analysis as analysis
assert not {"pandas", "scipy", "plotly", "matplotlib", "statsmodels"} & set(sys.modules)
results = analysis.load(sys.argv[1])
print(len(results.trials), len(results.frame(["accuracy", "accuracy_difference"])), len(results.settings))
print(len(analysis.average(results.rates(["accuracy"], by="tone"))))
print(results.predictions(columns=["id"]).num_rows > 0, "overview" if results._repr_html_() else "")
heavy = {"plotly", "matplotlib", "statsmodels", "sklearn", "fairlearn"} & set(sys.modules)
assert not heavy, heavy
print(results.table("series", "level").to_latex().count("toprule"))
import fairsweep.analysis.figures.plots as plots
print(len(plots.rate_by_level(results).data) > 0)
assert not {"matplotlib", "statsmodels"} & set(sys.modules)
print(analysis.write_report(results, sys.argv[2]).stat().st_size > 0)
"""


def test_results_open_without_torch_and_ray(faces, tmp_path):
    command = [sys.executable, "-c", BARRED, str(faces.folder), str(tmp_path / "report.html")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == ["18", "126", "9", "18", "True", "overview", "1", "True", "True"]
