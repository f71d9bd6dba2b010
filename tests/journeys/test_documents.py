"""Every code block of the README and of docs: commands are run, sweep files read, Python executed, on a tiny sweep."""

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from fairsweep.analysis.metrics.disparities import remove_score
from fairsweep.sweeps.cli import app as cli
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.sweep_file import SweepSource

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
FENCED = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

# The tiny form of a command, where it would take long, would ask, or names a place that stands for the reader's own.
INSTEAD = {
    "fairsweep prepare faces --to data/faces": "fairsweep prepare faces --to data/faces --count 320",
    "fairsweep prepare faces --to data/faces --count 1500 --size 16": (
        "fairsweep prepare faces --to data/few --count 48 --size 16"
    ),
    "fairsweep extend runs/quickstart --seeds 10": "fairsweep extend runs/quickstart --seeds 2 --yes",
    "fairsweep plan FILE --measure": "fairsweep plan sweep.yaml --measure",
    "fairsweep resume /content/drive/MyDrive/faces --to runs/faces": "fairsweep resume drive/faces --to runs/again",
}
# What is not run here, and why.
CLUSTERS = "needs machines; with two raylets on this one it is run by tests/sweeps/runtime/test_clusters.py (slow)"
STORES = "needs an object store; tests/sweeps/copies/test_remote.py runs it against one on loopback"
NOT_RUN = {
    "make demo": "its parts follow in the next block",
    "make test": "is what runs this",
    "python benchmarks/revisiting.py": "takes half an hour: tests/test_study.py runs it small (slow)",
    "fairsweep prepare folder --from fairface.zip": "test_raw_to_report.py runs FairFace's layout",
    "fairsweep prepare hf --from hub-faces": "test_searches.py prepares a copy",
    "fairsweep prepare folder --from photos": "needs photographs: test_own_data.py has such tables",
    "fairsweep predict runs/faces plain --images photos": "needs photographs: test_after_training.py has some",
    "pip install .[all]": "the gate builds the wheel and imports it: .ci/check-wheel",
    "ray start --head --port=6379": CLUSTERS,
    "ray start --address=HEAD:6379": CLUSTERS,
    "fairsweep run sweep.yaml --address auto": CLUSTERS,
    "fairsweep run sweep.yaml --address ray://HEAD:10001": CLUSTERS,
    "ray job submit": "needs a head with a dashboard: tests/sweeps/execution/test_jobs.py (slow)",
    "fairsweep resume s3://bucket/runs/faces": STORES,
    "fairsweep report s3://bucket/runs/faces --to faces.html": STORES,
    "from google.colab import drive": "Colab's own; tests/sweeps/copies/test_mirror.py runs a sweep beside a drive",
}
# Places in Python that stand for the reader's own.
PLACES = {'"s3://bucket/runs/again"': '"runs/quickstart"'}


@dataclass(frozen=True)
class Block:
    """A fenced block of a document: what it is written in, and what stands in it."""

    document: str
    line: int
    language: str
    text: str

    def __str__(self):
        return f"{self.document}:{self.line}"


def blocks_of(document):
    text = document.read_text(encoding="utf-8")
    return [
        Block(document.name, text.count("\n", 0, found.start()) + 1, found["language"], found["text"])
        for found in FENCED.finditer(text)
    ]


BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]
README = [block for block in BLOCKS if block.document == "README.md"]


def written_in(language):
    return pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == language], ids=str)


def reason_not_to_run(text):
    return next((NOT_RUN[start] for start in NOT_RUN if text == start or text.startswith(f"{start} ")), None)


def commands_in(block):
    """The lines of a block without comments; those that end with a backslash are one with the next."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [" ".join(shlex.split(line, comments=True)) for line in lines if shlex.split(line, comments=True)]


@pytest.fixture(scope="module")
def reader(tmp_path_factory, ray_session):
    """Runs commands as in a folder of the reader's own, in this process; returns what they print."""
    folder = tmp_path_factory.mktemp("reader") / "my work"
    folder.mkdir()

    def run(command):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr(sys, "argv", shlex.split(command))
            with pytest.raises(SystemExit) as end:
                cli.main()
        assert not end.value.code, command

    run.folder = folder
    return run


@pytest.fixture(scope="module")
def workplace(reader, tiny):
    """What a reader has who did what the README says first: data, a tiny quickstart, and a sweep file of their own."""
    (reader.folder / "examples").mkdir()
    YAML().dump(tiny(ROOT / "examples/quickstart.yaml"), reader.folder / "examples/quickstart.yaml")
    own = {
        "name": "faces",
        "dataset": {"path": "data/faces", "label": "smiling", "groups": ["tone"]},
        "model": {"name": "linear"},
        "learners": [{"name": "plain", "kind": "sgd", "epochs": 1}],
        "tracking": ["files"],
        "mirror": {"to": "drive/faces", "minutes": 5},
    }
    YAML().dump(own, reader.folder / "sweep.yaml")
    first = next(block for block in README if "fairsweep run" in block.text)
    for command in commands_in(first):
        if reason_not_to_run(command) is None:
            reader(INSTEAD.get(command, command))
    reader("fairsweep run sweep.yaml")
    return reader.folder, set(commands_in(first)) | {"fairsweep run sweep.yaml"}


@written_in("yaml")
def test_a_sweep_file_or_a_part_of_one_is_read(block, tmp_path):
    content = YAML().load(block.text)
    if not {"dataset", "learners"} <= set(content):
        content = SweepSource.read(ROOT / "examples/quickstart.yaml").content | content
    YAML().dump(content, tmp_path / "sweep.yaml")
    assert Sweep.from_yaml(tmp_path / "sweep.yaml").learners


def test_commands_and_python_run(reader, workplace, monkeypatch, request):
    """In one test, so that the sweep that they look at is made once."""
    request.addfinalizer(lambda: remove_score("cost"))  # a metric that docs/statistics.md defines
    folder, done = workplace
    monkeypatch.chdir(folder)
    for block in BLOCKS:
        try:
            if block.language == "sh":
                for command in commands_in(block):
                    if reason_not_to_run(command) is None and command not in done:
                        assert command.startswith("fairsweep "), f"say in NOT_RUN why {command!r} is not run"
                        reader(INSTEAD.get(command, command))
            elif block.language == "python" and reason_not_to_run(block.text.partition(";")[0]) is None:
                exec(compile(own_places(block.text, folder), str(block), "exec"), {})
        except BaseException as error:
            error.add_note(f"in the block at {block}")
            raise


def own_places(code, folder):
    for place, own in PLACES.items():
        code = code.replace(place, own)
    return code.replace("NAME", next((folder / "runs/quickstart/trials").iterdir()).name)


def test_the_readme_shows_the_quickstart(tmp_path):
    (block,) = [block for block in README if block.language == "yaml" and "learners" in block.text]
    (tmp_path / "shown.yaml").write_text(block.text, encoding="utf-8")
    shown, run = Sweep.from_yaml(tmp_path / "shown.yaml"), Sweep.from_yaml(ROOT / "examples/quickstart.yaml")
    assert shown == run


def test_every_block_says_what_it_is_written_in():
    assert {block.language for block in BLOCKS} <= {"sh", "yaml", "python", "text"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_code_is_fenced(document):
    """An indented block has no language, so nobody could run it."""
    outside = FENCED.sub("", document.read_text(encoding="utf-8"))
    assert not re.findall(r"\n\n    \S.*", outside)


def test_reasons_are_of_what_stands_there():
    starts = [command for block in BLOCKS if block.language == "sh" for command in commands_in(block)]
    starts += [block.text for block in BLOCKS if block.language == "python"]
    assert [reason for reason in NOT_RUN if not any(start.startswith(reason) for start in starts)] == []
    assert [command for command in INSTEAD if command not in starts] == []
