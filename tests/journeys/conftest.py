"""A user of fairsweep: a folder that is not the repository, the command in fresh processes, one Ray for all of them."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from ruamel.yaml import YAML

from fairsweep.sweeps.syntax.sweep_file import SweepSource

ROOT = Path(__file__).resolve().parents[2]
# `analysis` must open results on a laptop that has neither.
LOAD = """
import json, sys

class Barred:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "ray", "opacus"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Barred())
from fairsweep import analysis

found = {}
for place in sys.argv[1:]:
    results = analysis.load(place)
    rates = results.rates(["accuracy"], by=results.groups[0])
    found[place] = {"trials": len(results.trials), "tested": int((rates["n"] > 0).sum())}
    between = analysis.arbitrariness(results, by=results.groups[0]).query("metric == 'disagreement'")
    found[place]["disagreement"] = between[["series", "level", "group", "value"]].round(9).to_dict("records")
print(json.dumps(found))
"""


class User:
    """Somebody at a command line.

    Args:
        folder: where they work; nothing of the repository lies there.
        environment: of their processes.
    """

    def __init__(self, folder, environment):
        self.folder = folder
        self._environment = environment

    def having(self, **variables):
        """The same with other environment variables; None takes one away."""
        changed = {name: value for name, value in (self._environment | variables).items() if value is not None}
        return User(self.folder, changed)

    def start(self, *words):
        """Starts `fairsweep WORDS` and does not wait for it."""
        command = [Path(sys.executable).with_name("fairsweep"), *map(str, words)]
        with (self.folder / "started.log").open("a") as log:
            return subprocess.Popen(command, cwd=self.folder, env=self._environment, stdout=log, stderr=log)

    def fairsweep(self, *words, code=0):
        """What `fairsweep WORDS` prints, in a process of its own, which ends with a code."""
        command = [Path(sys.executable).with_name("fairsweep"), *map(str, words)]
        return self._output(command, code)

    def python(self, script, *arguments):
        """What a script prints, in a process of its own."""
        return self._output([sys.executable, "-c", script, *map(str, arguments)], 0)

    def error(self, *words):
        """What `fairsweep WORDS`, which is mistaken, says on stderr."""
        command = [Path(sys.executable).with_name("fairsweep"), *map(str, words)]
        return self._answer(command, 2).stderr

    def _output(self, command, code):
        return self._answer(command, code).stdout

    def _answer(self, command, code):
        answer = subprocess.run(
            command, cwd=self.folder, env=self._environment, capture_output=True, text=True, check=False, timeout=500
        )
        said = f"{' '.join(map(str, command[1:]))} ended with {answer.returncode}:\n{answer.stderr[-4000:]}"
        assert answer.returncode == code, said
        assert "Traceback" not in answer.stderr, said
        return answer

    def write(self, place, content):
        """Writes a sweep file."""
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        YAML().dump(content, path)
        return place

    def listed(self, folder):
        """What `fairsweep ls FOLDER --json` says."""
        return json.loads(self.fairsweep("ls", folder, "--json"))

    def loaded(self, *folders):
        """Counts of trials and of rates with test images behind them, read where torch and ray are not installed."""
        return json.loads(self.python(LOAD, *folders))


@pytest.fixture(scope="session")
def user(tmp_path_factory, ray_address, cache_folder):
    """Somebody whose folder has a space in its name."""
    folder = tmp_path_factory.mktemp("journeys") / "my work"
    folder.mkdir()
    environment = os.environ | {
        "RAY_ADDRESS": ray_address,
        "FAIRSWEEP_CACHE": str(cache_folder),
        "TERM": "dumb",
        "COLUMNS": "200",
        "WANDB_MODE": "offline",
    }
    return User(folder, environment)


LEAST = {
    "epochs": 1,
    "unsliced_epochs": 2,
    "rounds": 2,
    "rounds_per_iteration": 1,
    "batch_size": 16,
    "cohort_size": 2,
    "size": 60,
    "shards": 2,
    "slices": 2,
    "count": 10,
    "canaries": 8,
    "per_cell": 1,
    "population": 2,
    "seeds": 1,
    "samples": 4,
    "startup_trials": 2,
}
"""The most that is left of fields that say how much there is to do, wherever they stand."""


def shrunk(file):
    """The tiny form of a sweep file: its own sections, learners and dimensions, with the fewest images and steps."""
    content = _shrunk(SweepSource.read(file).content, ends=iter([[0, -1]]))
    for learner in content["learners"]:
        if "requests" in learner:
            learner["requests"]["count"] = 2
        if learner.get("inner", {}).get("kind") == "dpsgd":  # a slice has a few examples, and one of a rare group
            learner["inner"]["batch_size"] = 4
            learner.get("audit", {}).pop("by", None)
        if "interval" in learner:  # a population is ranked in between
            learner["inner"]["epochs"] = 2 * learner["interval"]
    # The quickstart runs two trials at once, and measures the gradient modes: every worker is a process that takes
    # seconds, and so do five modes of one network.
    if content["name"] != "quickstart":
        content["resources"] = content.get("resources", {}) | {"max_concurrent": 1}
        private = [one for learner in content["learners"] for one in (learner, learner.get("inner", {}))]
        for learner in (one for one in private if one.get("kind") == "dpsgd"):
            learner.setdefault("performance", {"gradient_mode": "bookkeeping"})
    if "shadows" in content:
        content["shadows"]["count"] = 8  # fewer say nothing
    if "evaluation" not in content:
        content["evaluation"] = {"balance": [content["dataset"]["groups"][0]], "per_cell": 2}
    return content


def _shrunk(value, name=None, *, ends):
    """The first grid of a file keeps both its ends, each further one a single value."""
    if isinstance(value, dict):
        if isinstance(value.get("grid"), list):
            return {"grid": [_shrunk(value["grid"][end], name, ends=ends) for end in next(ends, [0])]}
        return {key: 5 if name == "keep" else _shrunk(item, key, ends=ends) for key, item in value.items()}
    if isinstance(value, list):
        return [_shrunk(item, ends=ends) for item in value]
    return min(value, LEAST[name]) if name in LEAST and isinstance(value, int | float) else value


@pytest.fixture(scope="session")
def tiny():
    """Gives the tiny form of a sweep file."""
    return shrunk


def commands_of(file):
    """The fairsweep commands in the comments of a sweep file, as words without `fairsweep`."""
    lines = re.findall(r"^#\s+fairsweep ([^#\n]+)", file.read_text(), re.MULTILINE)
    return [line.split() for line in lines]


@pytest.fixture(scope="session")
def commands():
    """Gives the commands that a sweep file names."""
    return commands_of


# What makes a dataset small, behind the words of an example's own command.
SMALL = {
    "faces": ["--count", "600"],
    "mnist": ["--hold-out.test", "0.85", "--hold-out.validation", "0.06"],
    "celeba": ["--image-size", "16"],
    "utkface": ["--image-size", "16"],
    "folder": ["--image-size", "16"],
    "hf": ["--image-size", "16"],
    "fashion-mnist": [],
    "kmnist": [],
}


@pytest.fixture(scope="session")
def prepared(user, raw, tmp_path_factory, worker_id):
    """Gives what a `prepare` command printed: it runs in its small form, from raw files that lie where it expects them.

    Each command runs once in a test run: processes of tests that run at once share what it made.
    """
    writers = {
        "celeba": lambda folder: raw.celeba(folder, 240),
        "utkface": lambda folder: raw.utkface(folder, 12),
        "folder": _pictures,
        "hf": partial(raw.hugging_face, rows=90),
        "mnist": partial(_digits, raw),
        "fashion-mnist": partial(_digits, raw),
        "kmnist": partial(_digits, raw),
    }
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "prepared for journeys"
    shared.mkdir(exist_ok=True)

    def prepare(words):
        source, to = words[1], words[words.index("--to") + 1]
        name = "-".join(words).replace("/", "-")
        ready, said, place = shared / name, shared / f"{name}.txt", user.folder / to
        if place.is_symlink():  # what another command has prepared for the same place
            place.unlink()
        with FileLock(shared / f"{name}.lock"):
            if not said.exists():
                options = SMALL[source]
                if "--from" in words:
                    files = user.folder / words[words.index("--from") + 1]
                    if not files.exists():  # another command has read them
                        writers[source](files)
                    options = [] if source == "mnist" else options
                text = user.fairsweep(*_without(words, options[::2]), *options)
                place.rename(ready)
                said.write_text(text)
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(ready)
        return said.read_text()

    return prepare


def _without(words, options):
    """The words of a command without some options and their values: the small form has its own."""
    left = list(words)
    for option in options:
        if option in left:
            place = left.index(option)
            del left[place : place + 2]
    return left


def _digits(raw, folder):
    """Pairs of IDX files whose images are the brighter, the larger their label."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for part, count in (("train", 200), ("t10k", 40)):
        labels = np.arange(count) % 10
        images = random.integers(0, 60, (count, 28, 28)) + 20 * labels[:, None, None]
        (folder / f"{part}-images-idx3-ubyte").write_bytes(raw.idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(raw.idx(labels))


def _pictures(folder):
    """Photographs of one's own, with a table that names them."""
    folder.mkdir()
    random = np.random.default_rng(0)
    rows = ["path,kind,site"]
    for number in range(120):
        kind, site = ("cat", "dog", "fox")[number % 3], ("meadow", "forêt")[number // 3 % 2]
        pixels = random.integers(0, 120, (24, 30, 3), dtype=np.uint8) + 60 * (number % 3)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{kind},{site}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def raw():
    """The writers of raw files, which the tests of sources have."""
    place = ROOT / "tests" / "datasets" / "conftest.py"
    spec = importlib.util.spec_from_file_location("raw_forms", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Raw
