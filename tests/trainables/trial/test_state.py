import json
import multiprocessing

import pytest

from fairsweep.analysis.records.files import RecordError
from fairsweep.trainables.trial.state import StaleAttemptError, TrialStateFile


def test_the_life_of_a_trial(tmp_path):
    file = TrialStateFile(tmp_path / "trial")
    assert file.read() is None
    assert file.queue("abc").state == "queued"
    attempt = file.begin("abc", run=1)
    assert file.read().state == "running"
    attempt.update(iteration=3, metrics={"loss": 0.5, "epsilon": None})
    attempt.update(state="done")
    state = file.read()
    assert (state.state, state.iteration, state.metrics) == ("done", 3, {"loss": 0.5, "epsilon": None})
    with pytest.raises(ValueError, match="is done"):
        file.begin("abc")


def test_a_worker_that_outlives_its_driver_cannot_write(tmp_path):
    file = TrialStateFile(tmp_path)
    file.queue("abc")
    old = file.begin("abc", run=1)
    file.queue("abc")  # a new driver has taken over, its worker has not started yet
    for act in (lambda: old.update(iteration=9), lambda: old.owned().__enter__()):
        with pytest.raises(StaleAttemptError):
            act()
    new = file.begin("abc", run=2)
    new.update(iteration=1)
    with pytest.raises(StaleAttemptError):
        old.update(iteration=9)
    assert file.read().iteration == 1


def test_a_worker_that_starts_late_finds_its_driver_gone(tmp_path):
    file = TrialStateFile(tmp_path)
    file.queue("abc")
    file.queue("abc")
    with pytest.raises(StaleAttemptError, match="run 2"):
        file.begin("abc", run=1)


def test_a_restarted_worker_of_the_same_driver_takes_over(tmp_path):
    file = TrialStateFile(tmp_path)
    file.queue("abc")
    first, second = file.begin("abc", run=1), file.begin("abc", run=1)
    second.update(iteration=2)
    with pytest.raises(StaleAttemptError):
        first.update(iteration=1)


def test_a_folder_belongs_to_one_trial(tmp_path):
    TrialStateFile(tmp_path).queue("abc")
    with pytest.raises(ValueError, match="trial abc"):
        TrialStateFile(tmp_path).begin("def")


def test_infinite_metrics_survive(tmp_path):
    file = TrialStateFile(tmp_path)
    file.begin("abc").update(metrics={"epsilon": float("inf")})
    assert file.read().metrics == {"epsilon": float("inf")}
    assert "Infinity" not in (tmp_path / "state.json").read_text()


def test_a_damaged_state_is_an_error_that_names_the_file(tmp_path):
    (tmp_path / "state.json").write_text('{"state": "runn')
    with pytest.raises(RecordError, match=r"state\.json"):
        TrialStateFile(tmp_path).read()
    (tmp_path / "state.json").write_text(json.dumps({"trial": "a", "state": "sleeping"}))
    with pytest.raises(RecordError, match="sleeping"):
        TrialStateFile(tmp_path).read()


def _begin_only(folder, times):
    for _ in range(times):
        TrialStateFile(folder).begin("abc")


def test_no_attempt_is_lost_between_processes(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_begin_only, args=(tmp_path, 40)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert TrialStateFile(tmp_path).read().attempt == 120
