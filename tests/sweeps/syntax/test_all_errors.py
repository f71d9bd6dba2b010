"""All errors of a sweep file are shown at once, each on its line."""

import pytest

from fairsweep.sweeps.cli.app import main
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError, check_each

TEXT = """\
name: a b
seeds: 0
dataset: {path: data, label: smiling, groups: [tone], lable: x}
imbalance: {attribute: tone, majority: light, share: 1.5, size: -3}
learners:
  - {name: private, kind: dpsgd, epsilon: 3.0, noise_multiplier: 1.0}
  - {name: tuned, kind: sgd, epoch: 3, batch_size: 0}
"""


def test_every_mistake_of_a_file_is_one_line_with_its_number(tmp_path):
    path = tmp_path / "my sweep.yaml"
    path.write_text(TEXT)
    with pytest.raises(SweepError) as caught:
        Sweep.from_yaml(path)
    lines = [str(error).removeprefix(f"{path}, ") for error in caught.value.each]
    assert all("\n" not in line for line in lines)
    assert {line.partition(":")[0] for line in lines} == {f"line {number}" for number in (1, 2, 3, 4, 6, 7)}
    assert sum("line 4" in line for line in lines) == 2
    assert sum("line 7" in line for line in lines) == 2
    assert len(lines) == 8


def test_what_follows_from_a_mistake_is_no_mistake_of_its_own(mapping):
    mapping["learner"] = mapping.pop("learners")
    with pytest.raises(SweepError, match="unknown key 'learner': did you mean 'learners'") as caught:
        Sweep(**mapping)
    assert len(caught.value.each) == 1


def test_checks_are_made_whatever_the_others_find():
    def fail(number):
        raise SweepError(f"error {number}")

    with pytest.raises(SweepError, match="error 1") as caught:
        check_each([lambda: fail(1), lambda: None, lambda: fail(2)])
    assert [error.message for error in caught.value.each] == ["error 1", "error 2"]
    check_each([lambda: None])


def test_the_command_line_prints_them_all(tmp_path, monkeypatch, capsys):
    (tmp_path / "sweep.yaml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["fairsweep", "plan", "sweep.yaml"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("fairsweep: sweep.yaml, line") == 8
