"""Records (`files`, `cell_records`, `prediction_records`, `training_records`): what is written is what is read."""

import doctest
import errno
import json
import math
import os

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from fairsweep.analysis.records import cell_records, trial_state
from fairsweep.analysis.records.cell_records import (
    RESERVED_COLUMNS,
    CellsFile,
    count_cells,
    group_column,
    read_cells,
    write_cells,
)
from fairsweep.analysis.records.file_names import CELLS, CONFIG, PREDICTIONS, PRIVACY, STATE, TRAINING
from fairsweep.analysis.records.files import RecordError, read_json, write_json, written_together
from fairsweep.analysis.records.prediction_records import predictions_table, read_predictions, write_predictions
from fairsweep.analysis.records.training_records import read_training, training_table, write_training
from fairsweep.analysis.records.trial_cells import CellSchema, TrialCells
from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.analysis.records.vocabularies import Vocabulary

TONE = Vocabulary("tone", ("light", "dark"), ("Light", "Dark"))
SHAPE = Vocabulary("shape", ("round", "long"))
SMILING = Vocabulary("smiling", ("no", "yes"))


def some_cells(iteration=1, split="test", n=500, seed=0):
    rng = np.random.default_rng(seed)
    columns = {name: rng.integers(0, 2, n) for name in ("tone", "shape", "label", "prediction")}
    groups = {"tone": columns["tone"], "shape": columns["shape"]}
    table = count_cells(
        iteration=iteration, split=split, groups=groups, label=columns["label"], prediction=columns["prediction"]
    )
    return table, columns


@pytest.mark.parametrize("module", [cell_records, trial_state])
def test_doctest(module):
    assert doctest.testmod(module).failed == 0


def test_a_state_is_read_with_its_defaults_and_refused_with_what_is_wrong(tmp_path):
    path = tmp_path / STATE
    content = {"trial": "9af3", "state": "stopped", "by": "user", "metrics": {"epsilon": "inf"}, "more": 1}
    path.write_text(json.dumps(content))  # as another version may have written it
    state = trial_state.read_state(path)
    assert (state.attempt, state.metrics, state.ended, state.may_go_on) == (0, {"epsilon": math.inf}, False, True)
    for change in ({"state": "waiting"}, {"by": "chance"}, {"attempt": "2"}, {"trial": None}, {"metrics": [1]}):
        write_json(path, {"trial": "9af3"} | change)
        with pytest.raises(RecordError, match=r"state.json is damaged: .* must be"):
            trial_state.read_state(path)
    write_json(path, {"state": "done"})
    with pytest.raises(RecordError, match="trial must be there"):
        trial_state.read_state(path)


def test_one_folder_reads_all_its_files_once_and_says_what_they_say(tmp_path):
    folder = tmp_path / "dp_sgd_s0-9af39af3"
    folder.mkdir()
    trial = TrialFolder(folder)
    assert (trial.state, trial.config, trial.cells(), trial.training(), trial.predictions()) == (None,) * 5
    assert (trial.learner, trial.stage, trial.hash, trial.epsilon) == ("", "unknown", None, math.inf)
    write_json(folder / STATE, {"trial": "9af3" * 16, "state": "stopped", "by": "stopper"})
    write_json(folder / CONFIG, {"learner": {"name": "dp_sgd", "kind": "dpsgd"}})
    write_json(folder / PRIVACY, {"epsilon": {"pld": None}})
    assert trial.learner == ""  # read before
    trial = TrialFolder(folder)
    assert (trial.learner, trial.kind, trial.label) == ("dp_sgd", "dpsgd", "dp_sgd_s0")
    assert (trial.stage, trial.stopped_by, trial.is_whole) == ("done", "stopper", True)
    assert math.isnan(trial.epsilon)


def test_cells_hold_every_example_once():
    table, columns = some_cells()
    frame = table.to_pandas()
    assert frame["count"].sum() == 500
    assert (frame["count"] > 0).all()
    for row in frame.rename(columns={"count": "examples"}).itertuples():
        expected = (
            (columns["tone"] == row.tone)
            & (columns["shape"] == row.shape)
            & (columns["label"] == row.label)
            & (columns["prediction"] == row.prediction)
        ).sum()
        assert row.examples == expected
    keys = frame[["tone", "shape", "label", "prediction"]].to_numpy().tolist()
    assert keys == sorted(keys)
    assert len({tuple(key) for key in keys}) == len(keys)


def test_cells_of_no_example_are_an_empty_table_with_the_same_columns():
    table, _ = some_cells()
    empty = count_cells(iteration=1, split="test", groups={"tone": [], "shape": []}, label=[], prediction=[])
    assert empty.num_rows == 0
    assert empty.schema == table.schema


def test_codes_below_zero_and_large_codes_keep_their_order():
    table = count_cells(
        iteration=0, split="test", groups={"g": [-1, 32767, 0]}, label=[-32768, 0, 1], prediction=[1, 1, 1]
    )
    assert table["g"].to_pylist() == [-1, 0, 32767]


@pytest.mark.parametrize(
    ("groups", "label", "message"),
    [
        ({"tone": [0, 1]}, [0], "one entry per example"),
        ({"tone": [0.5]}, [0], "integer codes"),
        ({"tone": [40_000]}, [0], "int16"),
    ],
)
def test_impossible_cells_are_refused(groups, label, message):
    with pytest.raises(ValueError, match=message):
        count_cells(iteration=0, split="test", groups=groups, label=label, prediction=[0])


def test_cells_round_trip_with_vocabularies(tmp_path):
    table = pa.concat_tables([some_cells(1)[0], some_cells(2, "validation")[0]])
    write_cells(tmp_path / CELLS, table, [TONE, SHAPE, SMILING], "smiling")
    read = read_cells(tmp_path / CELLS)
    assert read.table.equals(table)
    assert read.groups == ("tone", "shape")
    assert read.label == "smiling"
    assert read.vocabularies["tone"] == TONE
    assert read.vocabularies["shape"].display == ("round", "long")
    remote = read_cells(str(tmp_path / CELLS), pafs.LocalFileSystem())
    assert remote.table.equals(table)


def test_a_group_may_be_called_as_a_column_of_the_records(tmp_path):
    names = (*sorted(RESERVED_COLUMNS), "group:label", "tone")
    groups = {name: [number, number + 1] for number, name in enumerate(names)}
    table = count_cells(iteration=1, split="test", groups=groups, label=[0, 1], prediction=[1, 1])
    assert table["label"].to_pylist() == [0, 1]
    assert table.column_names[-4:] == ["tone", "label", "prediction", "count"]
    words = [Vocabulary(name, tuple("0123456789")) for name in names]
    write_cells(tmp_path / CELLS, table, words, "label")
    read = read_cells(tmp_path / CELLS)
    assert read.groups == names
    codes = {name: read.table[group_column(name)].to_pylist() for name in names}
    assert codes == {name: [number, number + 1] for number, name in enumerate(names)}
    assert CellSchema.of(read).columns == tuple(read.table.column_names[2:-1])


def test_cells_without_vocabulary_or_column_are_refused(tmp_path):
    table, _ = some_cells()
    with pytest.raises(ValueError, match=r"\['shape'\] have none"):
        write_cells(tmp_path / "c", table, [TONE, SMILING], "smiling")
    with pytest.raises(ValueError, match=r"\['count'\] are missing"):
        write_cells(tmp_path / "c", table.drop_columns(["count"]), [TONE, SHAPE, SMILING], "smiling")
    assert list(tmp_path.iterdir()) == []


def test_vocabulary_shows_values_and_unknown_codes():
    assert TONE.shown(1) == "Dark"
    assert TONE.shown(7) == "code 7"
    with pytest.raises(ValueError, match="one to one"):
        Vocabulary("tone", ("light", "dark"), ("Light",))


def test_predictions_round_trip(tmp_path):
    log_p = np.log(np.array([[0.25, 0.75], [0.5, 0.5], [0.9, 0.1]], np.float32))
    table = predictions_table(
        iteration=3, ids=[5, 8, 9], split="test", label=[1, 0, 0], prediction=[1, 0, 0], log_probabilities=log_p
    )
    write_predictions(tmp_path / PREDICTIONS, table)
    read = read_predictions(tmp_path / PREDICTIONS)
    assert np.allclose(np.stack(read["log_probabilities"].to_numpy(zero_copy_only=False)), log_p)
    assert read["id"].to_pylist() == [5, 8, 9]
    with pytest.raises(ValueError, match="shape"):
        predictions_table(iteration=3, ids=[5], split="test", label=[1], prediction=[1], log_probabilities=log_p)
    with pytest.raises(ValueError, match="each of the 3 ids"):
        predictions_table(iteration=3, ids=[5, 8, 9], split="test", label=[1], prediction=[1], log_probabilities=log_p)


def test_training_round_trip_with_and_without_diagnostics(tmp_path):
    diagnostic = {
        "attribute": "tone",
        "value": 1,
        "label": 0,
        "count": 12,
        "mean_gradient_norm": 2.5,
        "clipped_share": 0.75,
        "cosine": -0.1,
    }
    clients = {
        "attribute": "",
        "value": -1,
        "clients": 20,
        "accuracy_mean": 0.8,
        "accuracy_variance": 0.01,
        "accuracy_worst_decile": 0.55,
        "updates": 9,
        "mean_update_norm": 1.5,
        "clipped_share": 0.5,
        "cosine": 0.25,
    }
    rows = [
        {"iteration": 1, "loss": 0.7, "seconds": 1.5, "examples": 400, "diagnostics": [diagnostic], "clients": []},
        {"iteration": 2, "loss": 0.6, "seconds": 1.4, "examples": 391, "clients": [clients], "l2_clip_norm": 0.5},
    ]
    write_training(tmp_path / TRAINING, training_table(rows))
    read = read_training(tmp_path / TRAINING).to_pylist()
    assert read[0] == rows[0] | {"l2_clip_norm": None}
    assert read[1] == rows[1] | {"diagnostics": []}
    with pytest.raises(ValueError, match="accuracy"):
        training_table([{"iteration": 1, "accuracy": 0.5}])
    with pytest.raises(ValueError, match="norm"):
        training_table([{"iteration": 1, "diagnostics": [{"norm": 0.5}]}])
    with pytest.raises(ValueError, match="median"):
        training_table([{"iteration": 1, "clients": [{"median": 0.5}]}])


def test_json_is_standard_and_round_trips(tmp_path):
    path = tmp_path / "x.json"
    value = {"epsilon": math.inf, "lower": -math.inf, "nan": math.nan, "tuple": (1, 2), "numpy": np.float64(1.5)}
    write_json(path, value | {"count": np.int64(3), "word": "façade"})
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    read = read_json(path)
    assert float(read["epsilon"]) == math.inf
    assert float(read["lower"]) == -math.inf
    assert read["nan"] is None
    assert read["tuple"] == [1, 2]
    assert (read["numpy"], read["count"], read["word"]) == (1.5, 3, "façade")


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_files_written_together_appear_when_all_are_on_the_disk_or_not_at_all(tmp_path, monkeypatch):
    first, last = tmp_path / CONFIG, tmp_path / STATE

    def write_both(trial, state):
        with written_together():
            write_json(first, {"trial": trial})
            with written_together():  # joins the other
                write_json(last, {"state": state})
            return first.exists(), last.exists()

    assert write_both("9af3", "done") == (False, False)
    with pytest.raises(TypeError):
        write_both("0bc4", object())
    size = last.stat().st_size

    def full(descriptor):
        if os.fstat(descriptor).st_size == size:
            raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_both("0bc4", "fine")
    assert (read_json(first), read_json(last)) == ({"trial": "9af3"}, {"state": "done"})
    assert {path.name for path in tmp_path.iterdir()} == {CONFIG, STATE}


def test_damaged_and_newer_files_are_named(tmp_path):
    (tmp_path / "x.json").write_text('{"a": ')
    with pytest.raises(RecordError, match=r"x\.json is damaged"):
        read_json(tmp_path / "x.json")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(RecordError, match="JSON object"):
        read_json(tmp_path / "list.json")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(RecordError, match="damaged"):
        read_cells(tmp_path / "c.parquet")
    table, _ = some_cells()
    pq.write_table(table, tmp_path / "bare.parquet")
    with pytest.raises(RecordError, match="vocabularies"):
        read_cells(tmp_path / "bare.parquet")
    pq.write_table(table.replace_schema_metadata({b"fairsweep.format_version": b"99"}), tmp_path / "new.parquet")
    with pytest.raises(RecordError, match="format version 99, but this fairsweep reads up to 1: update"):
        read_cells(tmp_path / "new.parquet")
    write_json(tmp_path / "new.json", {"format_version": 99})
    with pytest.raises(RecordError, match="format version 99, but this fairsweep reads up to 1: update"):
        read_json(tmp_path / "new.json")
    with pytest.raises(FileNotFoundError):
        read_cells(tmp_path / "absent.parquet")


def test_json_is_read_as_the_standard_library_reads_it(tmp_path):
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal(2000) * 10.0 ** rng.integers(-300, 300, 2000)
    value = {"numbers": numbers.tolist(), "large": 2**70, "nested": [{"a": None, "b": [True, "façade \u2028"]}]}
    write_json(tmp_path / "x.json", value)
    plain = json.loads((tmp_path / "x.json").read_text())
    assert plain.pop("checksum").startswith("crc32:")
    assert read_json(tmp_path / "x.json") == plain == value


def test_texts_as_codes_hold_the_same(tmp_path):
    table = pa.concat_tables([some_cells(i, split)[0] for i in (1, 2) for split in ("validation", "test")])
    path = tmp_path / "cells.parquet"
    write_cells(path, table, [TONE, SHAPE, SMILING], "smiling")
    whole = read_cells(path)
    coded = read_cells(path, None, ("split",))
    assert pa.types.is_dictionary(coded.table.column("split").type)
    assert coded.table.column("split").to_pylist() == table.column("split").to_pylist()
    assert read_cells(path, pafs.LocalFileSystem()).table.equals(whole.table)
    one, other = (TrialCells.of(file) for file in (whole, coded))
    for name in ("evaluations", "length", "cell", "count"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.length.tolist() == [len(some_cells(i, split)[0]) for split in ("validation", "test") for i in (1, 2)]


@pytest.mark.parametrize(
    ("column", "value", "message"), [("tone", -1, "must lie in"), ("split", "dev", "split must be")]
)
def test_codes_and_splits_without_a_place_are_refused(column, value, message):
    table, _ = some_cells()
    at = table.column_names.index(column)
    values = [value, *table.column(column).to_pylist()[1:]]
    table = table.set_column(at, column, pa.array(values, table.schema.field(column).type))
    vocabularies = {vocabulary.name: vocabulary for vocabulary in (TONE, SHAPE, SMILING)}
    with pytest.raises(RecordError, match=message):
        TrialCells.of(CellsFile(table, ("tone", "shape"), vocabularies, "smiling"))


def test_cells_of_nothing_are_empty():
    table, _ = some_cells()
    vocabularies = {vocabulary.name: vocabulary for vocabulary in (TONE, SHAPE, SMILING)}
    empty = TrialCells.of(CellsFile(table.slice(0, 0), ("tone", "shape"), vocabularies, "smiling"))
    assert not len(empty.evaluations)
    assert not len(empty.length)
