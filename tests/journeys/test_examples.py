"""Every sweep file in `examples/`, by the commands that stand in its comments, in its tiny form, to its results."""

from pathlib import Path

import pytest
import torch

from fairsweep import analysis
from fairsweep.sweeps.store.listing import list_sweeps

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))


def published_weights(path):
    """A file of weights as torchvision publishes it, with numbers of nobody's."""
    from torchvision.models import resnet18

    with torch.random.fork_rng():
        weights = resnet18().state_dict()
    path.parent.mkdir(exist_ok=True)
    torch.save(weights, path)


@pytest.mark.parametrize(
    "file",
    # The README's first commands are the quickstart's: test_documents.py runs them in the gate.
    [pytest.param(f, id=f.stem, marks=[pytest.mark.slow] if f.stem == "quickstart" else []) for f in EXAMPLES],
)
def test_an_example_goes_all_the_way(file, user, commands, prepared, tiny):
    content = tiny(file)
    user.write(f"examples/{file.name}", content)
    if "pretrained" in content.get("model", {}):
        published_weights(user.folder / content["model"]["pretrained"])
    said = {}
    for words in commands(file):
        said[words[0]] = prepared(words) if words[0] == "prepare" else user.fairsweep(*words)
    folder = user.folder / "runs" / file.stem
    assert f"Report: {folder / 'report.html'}" in said["run"]
    assert (folder / "report.html").stat().st_size > 100_000
    (sweep,) = list_sweeps(folder)
    assert sweep.trials > 0
    assert sweep.counts["done"] + sweep.counts["stopped"] == sweep.trials == sum(sweep.counts.values())
    results = analysis.load(folder)
    assert len(results.trials) == sweep.trials
    assert (results.rates(["accuracy"], by=results.groups[0])["n"] > 0).all()


def test_no_example_is_forgotten():
    """Sweep files are here, notebooks in tests/test_notebooks.py; another kind of file needs a test of its own."""
    kinds = {path.suffix for path in EXAMPLES[0].parent.iterdir() if path.is_file()}
    assert kinds == {".yaml", ".ipynb"}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_says_how_it_is_prepared_and_run(file, commands):
    verbs = [words[0] for words in commands(file)]
    assert verbs[0] == "prepare"
    assert verbs[-1] == "run"
    assert commands(file)[-1] == ["run", f"examples/{file.name}"]
