import numpy as np
import pytest
import torch

from fairsweep.trainables.learning.tensor_bytes import decode, encode
from fairsweep.trainables.trial.checkpoint import CheckpointFolder


def state(number):
    return {
        "weights": torch.full((4, 3), float(number)),
        "step": number,
        "nested": [1, 2.5, None, "a", (True,)],
        3: "x",
    }


def test_what_is_saved_comes_back_equal(tmp_path):
    folder = CheckpointFolder(tmp_path / "c")
    assert folder.newest() is None
    folder.save(1, state(1))
    newest = folder.newest()
    assert newest.iteration == 1
    assert torch.equal(newest.state.pop("weights"), torch.ones(4, 3))
    assert newest.state == {"step": 1, "nested": [1, 2.5, None, "a", (True,)], 3: "x"}


@pytest.mark.parametrize("keep", [1, 2])
def test_only_the_newest_stay(tmp_path, keep):
    folder = CheckpointFolder(tmp_path / "c", keep=keep)
    for number in range(1, 5):
        folder.save(number, state(number))
    assert folder.iterations() == [4, 3][:keep]
    assert len(list(folder.folder.iterdir())) == 2 * keep


def test_the_old_one_is_deleted_only_after_the_newer_is_whole(tmp_path, monkeypatch):
    folder = CheckpointFolder(tmp_path / "c")
    folder.save(1, state(1))
    monkeypatch.setattr(folder, "delete_superseded", lambda: None)
    folder.save(2, state(2))
    assert folder.iterations() == [2, 1]
    monkeypatch.undo()

    def die(*_):
        raise KeyboardInterrupt

    for step in ("_state_path", "_checksum_path"):
        monkeypatch.setattr(folder, step, die)
        with pytest.raises(KeyboardInterrupt):
            folder.save(3, state(3))
        monkeypatch.undo()
        assert CheckpointFolder(folder.folder).newest().iteration == 2


@pytest.mark.parametrize("damage", ["cut", "changed", "no checksum", "bad checksum"])
def test_a_damaged_checkpoint_counts_as_absent(tmp_path, damage):
    folder = CheckpointFolder(tmp_path / "c", keep=2)
    folder.save(1, state(1))
    folder.save(2, state(2))
    path = folder.folder / "000002.pt"
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-100])
    elif damage == "changed":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "no checksum":
        path.with_suffix(".json").unlink()
    else:
        path.with_suffix(".json").write_text("{")
    assert folder.newest().iteration == 1
    folder.save(2, state(2))
    assert folder.newest().iteration == 2


def test_what_a_kill_left_behind_is_deleted_with_the_next_save(tmp_path):
    folder = CheckpointFolder(tmp_path / "c")
    folder.save(1, state(1))
    for name in (f".000002.pt.{'0a' * 16}.tmp", "000002.pt"):
        (folder.folder / name).write_bytes(b"half")
    folder.save(3, state(3))
    assert sorted(path.name for path in folder.folder.iterdir()) == ["000003.json", "000003.pt"]


def test_clear_leaves_nothing(tmp_path):
    folder = CheckpointFolder(tmp_path / "c")
    folder.clear()
    folder.save(1, state(1))
    folder.clear()
    assert not folder.folder.exists()


@pytest.mark.parametrize(
    "value", [np.float32(1), {1, 2}, object(), torch.nn.Linear(1, 1), torch.Generator(), b"bytes", {1.5: 0}]
)
def test_only_tensors_and_json_values_are_taken(value):
    with pytest.raises(TypeError, match=r"state\['deep'\]"):
        encode({"deep": [value] if not isinstance(value, dict) else value})


def test_a_view_takes_no_more_room_than_its_own_values():
    large = torch.zeros(1000, 1000)
    assert len(encode({"view": large[0]})) < 10_000


def test_loading_runs_no_code():
    class Malicious:
        def __reduce__(self):
            return (pytest.fail, ("code in a checkpoint was run",))

    import io

    buffer = io.BytesIO()
    torch.save({"a": Malicious()}, buffer)
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        decode(buffer.getvalue())


def test_files_are_written_and_deleted_only_while_they_are_owned(tmp_path):
    class RefusedError(Exception):
        pass

    owned = {"now": True}

    class Owner:
        def __enter__(self):
            if not owned["now"]:
                raise RefusedError

        def __exit__(self, *_):
            return None

    folder = CheckpointFolder(tmp_path / "c", owned=Owner)
    folder.save(1, state(1))
    owned["now"] = False
    for act in (lambda: folder.save(2, state(2)), folder.clear):
        with pytest.raises(RefusedError):
            act()
    assert folder.newest().iteration == 1


def test_keep_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="keep=0"):
        CheckpointFolder(tmp_path, keep=0)


@pytest.mark.parametrize(
    ("keep", "scores", "kept"),
    [
        (1, [0.9, 0.1, 0.2, 0.3], [4]),
        (2, [0.5, 0.9, 0.9, 0.3], [4, 2]),  # of equal ones the earliest
        (2, [0.5, 0.6, 0.7, 0.8], [4, 3]),  # the newest is the best
        (3, [0.9, 0.1, 0.2, 0.3], [4, 3, 1]),
        (2, [None, None, None, None], [4, 3]),
        (2, [None, 0.2, None, None], [4, 2]),
    ],
)
def test_the_best_stays_beside_the_newest(tmp_path, keep, scores, kept):
    folder = CheckpointFolder(tmp_path / "c", keep=keep)
    for number, score in enumerate(scores, start=1):
        folder.save(number, state(number), score=score)
    assert folder.iterations() == kept
    # A trial that goes on elsewhere knows the scores from the files alone.
    CheckpointFolder(tmp_path / "c", keep=keep).save(5, state(5), score=0.0)
    assert folder.iterations()[0] == 5


def test_a_budget_lets_fewer_stay_and_never_none(tmp_path):
    one = len(encode(state(1))) + 300
    folder = CheckpointFolder(tmp_path / "c", keep=5, budget_bytes=3 * one)
    for number in range(1, 6):
        folder.save(number, state(number), score=1 / number)
        assert sum(path.stat().st_size for path in folder.folder.iterdir()) <= 3 * one
    assert folder.iterations() == [5, 4, 1]
    tight = CheckpointFolder(tmp_path / "c", keep=5, budget_bytes=10)
    tight.save(6, state(6))
    assert tight.iterations() == [6]
    assert tight.newest().iteration == 6
