import pytest

from fairsweep.sweeps.errors import SweepError
from fairsweep.sweeps.sweep_file import SweepSource, nearest

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
        ("a: b: c", "no YAML"),
    ],
)
def test_what_is_no_sweep_file_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(SweepError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "wandb: {api_key: SECRET}\n",
        "name: x\nwandb_api_key: SECRET\n",
        "learners:\n  - {name: a, api_key: SECRET}\n",
        "tracking:\n  password: SECRET\n",
        "WANDB: SECRET\n",
    ],
)
def test_secrets_are_refused_and_never_repeated(tmp_path, text):
    with pytest.raises(SweepError, match="environment") as caught:
        read(tmp_path, text)
    assert "SECRET" not in str(caught.value)
    assert "line" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SweepError, match=r"nowhere\.yaml"):
        SweepSource.read(tmp_path / "nowhere.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SweepError, match="binary"):
        SweepSource.read(tmp_path / "binary")


def test_the_nearest_name_is_suggested():
    assert nearest("epoch", ["epochs", "lr"]) == "did you mean 'epochs'?"
    assert nearest("xyz", ["epochs", "lr"]) == "known: epochs, lr"
