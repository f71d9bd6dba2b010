import time

import pytest

from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.sweep_file import SweepSource, nearest

TEXT = """\
name: toy            # a comment
dataset: {path: data, label: smiling, groups: [tone]}
imbalance:
  attribute: tone
  majority: no
  keep: {8: 500}
learners:
  - name: a
    kind: sgd
    optimizer:
      lr: 1e-3
  - {name: b, twin_of: a}
"""


def read(tmp_path, text):
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    return SweepSource.read(path)


def test_yaml_is_version_1_2(tmp_path):
    content = read(tmp_path, TEXT).content
    assert content["imbalance"] == {"attribute": "tone", "majority": "no", "keep": {8: 500}}
    assert content["learners"][0]["optimizer"] == {"lr": 0.001}
    assert type(content["learners"][0]["optimizer"]["lr"]) is float
    assert type(content["name"]) is str


def test_places_have_lines(tmp_path):
    source = read(tmp_path, TEXT)
    assert source.line(()) is None
    assert source.line(("name",)) == 1
    assert source.line(("dataset", "label")) == 2
    assert source.line(("imbalance", "keep", 8)) == 6
    assert source.line(("learners", 0, "optimizer", "lr")) == 11
    assert source.line(("learners", 1)) == 12
    assert source.line(("learners", 0, "optimizer", "nothing")) == 10
    error = source.error(SweepError("too large", ("learners", 0, "optimizer", "lr")))
    assert str(error) == f"{source.path}, line 11: learners[0].optimizer.lr: too large"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "line"),
        ("a: 1\na: 2\n", "line 2: this key is given twice"),
        ("just a word", "must be a mapping"),
        ("- a\n- b\n", "must be a mapping"),
        ("", "must be a mapping"),
        ("a: b: c", "not valid YAML"),
    ],
)
def test_what_is_no_sweep_file_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(SweepError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "wandb: {api_key: SECRET0123456789}\n",
        "name: x\nwandb_api_key: SECRET0123456789\n",
        "learners:\n  - {name: a, api_key: SECRET0123456789}\n",
        "tracking:\n  password: SECRET\n",
        "WANDB: SECRET0123456789\n",
        "tracking: {wandb: SECRET0123456789}\n",
        "env: {ACCESS_KEY_ID: SECRET0123456789}\n",
    ],
)
def test_secrets_are_refused_and_never_repeated(tmp_path, text):
    with pytest.raises(SweepError, match="environment") as caught:
        read(tmp_path, text)
    assert "SECRET" not in str(caught.value)
    assert "line" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "tracking: {wandb: true}\n",
        "tracking: {wandb: {project: faces2026-under-privacy}}\n",
        "tracking: {wandb: offline}\n",
        "imbalance: {keep: {secretary: 5}}\n",
        "privacy: {key: 12345678901234567890}\n",
        "imbalance: {attribute: monkey2, majority: token}\n",
        "learners: [{name: secret}]\n",
    ],
)
def test_words_are_no_secrets(tmp_path, text):
    assert read(tmp_path, text).text == text


_BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_BOMB, "line 5: .* at most 20,000 values"),
        ("a: &a [*a, *a]\n", "line 1: the alias \\*a refers to itself"),
        ("x: 1\na: " + "[" * 20_000, "line 2: values must be nested at most 32 deep"),
        ("a: " + "{a: " * 20_000, "line 1: values must be nested at most 32 deep"),
        ("- " * 5_000, "nested at most 32 deep"),
        ("seeds: " + "1" * 6_000 + "\n", "line 1: a number must have at most 100 digits, but here one has 6,000"),
        ("seeds: 0x" + "f" * 6_000 + "\n", "at most 100 digits"),
        ("a: b\n" * 100_000, "at most 131,072 characters"),
    ],
    ids=["bomb", "itself", "lists", "mappings", "dashes", "digits", "hexadecimal", "size"],
)
def test_hostile_files_are_refused_at_once(tmp_path, text, message):
    began = time.perf_counter()
    with pytest.raises(SweepError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize("name", ["x" * 255, "deadbeef" * 30, "_" * 200])
def test_a_long_word_is_no_number(tmp_path, name):
    assert read(tmp_path, f"name: {name}\n").content == {"name": name}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SweepError, match=r"nowhere\.yaml"):
        SweepSource.read(tmp_path / "nowhere.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SweepError, match="binary"):
        SweepSource.read(tmp_path / "binary")


def test_the_nearest_name_is_suggested():
    assert nearest("epoch", ["epochs", "lr"]) == "did you mean 'epochs'?"
    assert nearest("xyz", ["epochs", "lr"]) == "known: epochs, lr"


WANDB = """\
program: train.py
method: bayes
metric: {name: val_loss, goal: minimize}
parameters:
  lr: {min: 0.001, max: 0.1}
"""
HYDRA = """\
defaults:
  - model: resnet
  - _self_
hydra: {run: {dir: out}}
name: x
"""


@pytest.mark.parametrize(("text", "tool"), [(WANDB, "W&B sweep file"), (HYDRA, "Hydra config")])
@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_whole_file_of_another_tool_is_recognised(fairsweep, tmp_path, text, tool, command):
    (tmp_path / "theirs.yaml").write_text(text)
    code, out, err = fairsweep(command, "theirs.yaml")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert tool in err
    assert "fairsweep init" in err
    assert "did you mean" not in err
