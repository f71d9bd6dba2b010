"""A study's rows, written into a storage without sampling, and read back by Optuna's public calls."""

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from fairsweep.sweeps.search.optuna_internals import StudyRows, check_optuna, without_constraints
from fairsweep.sweeps.syntax.errors import SweepError


def setting(**options):
    return create_trial(params={"x": 0.5}, distributions={"x": FloatDistribution(0, 1)}, **options)


@pytest.fixture(params=["memory", "journal", "sqlite"])
def study(request, tmp_path):
    storage = {
        "memory": InMemoryStorage,
        "journal": lambda: JournalStorage(JournalFileBackend(str(tmp_path / "journal"))),
        "sqlite": lambda: RDBStorage(f"sqlite:///{tmp_path / 'search.db'}"),
    }[request.param]()
    optuna.create_study(storage=storage, study_name="another").add_trial(setting(value=1.0))
    return storage, optuna.create_study(storage=storage, study_name="one")


def test_rows_are_what_optunas_public_calls_read(study):
    storage, public = study
    rows = StudyRows(storage, "one")
    rows.add(setting(state=TrialState.RUNNING))
    rows.note(0, "fact", [1])
    told = setting(value=0.25, system_attrs={"constraints:a": -1.0, "sampler's": 1})
    rows.finish(0, told)
    assert len(rows) == len(rows.trials()) == 1
    (read,) = public.trials
    assert rows.trial(0).values == read.values == [0.25]
    assert (read.state, read.params, read.user_attrs) == (TrialState.COMPLETE, {"x": 0.5}, {"fact": [1]})
    assert read.constraints == {"a": -1.0}
    assert "sampler's" not in read.system_attrs


def test_a_setting_is_opened_and_told_without_a_trace_of_sampling(study):
    storage, public = study
    rows = StudyRows(storage, "one")
    rows.add(setting(state=TrialState.RUNNING))
    trial = rows.opened(public, 0)
    trial.set_constraint("a", 2.0)
    public.tell(trial, 1.0)
    assert public.trials[0].constraints == {"a": 2.0}
    assert set(public.trials[0].system_attrs) == {"constraints:a"}


def test_what_a_sampler_keeps_with_a_study_is_copied(study):
    storage, _ = study
    other = InMemoryStorage()
    optuna.create_study(storage=other, study_name="copy")
    source, copy = StudyRows(storage, "one"), StudyRows(other, "copy")
    storage.set_study_system_attr(storage.get_study_id_from_name("one"), "parents", [1, 2])
    copy.copy_attributes(source)
    assert other.get_study_system_attrs(other.get_study_id_from_name("copy"))["parents"] == [1, 2]


def test_a_setting_that_is_half_told_is_made_untold():
    half = setting(state=TrialState.RUNNING, system_attrs={"constraints:a": 1.0, "kept": 1})
    assert without_constraints(half).constraints == {}
    assert half.system_attrs == {"kept": 1}


def without_call(monkeypatch):
    monkeypatch.delattr(BaseStorage, "set_trial_state_values")


def without_constraints_there(monkeypatch):
    monkeypatch.setattr(FrozenTrial, "constraints", property(lambda _: {}))


def without_any_constraints(monkeypatch):
    monkeypatch.delattr(FrozenTrial, "constraints")


@pytest.mark.parametrize(
    ("change", "lacking"),
    [
        (without_call, r"BaseStorage\.set_trial_state_values"),
        (without_constraints_there, "system attributes 'constraints:'"),
        (without_any_constraints, "system attributes 'constraints:'"),
    ],
)
def test_a_version_of_optuna_that_stores_otherwise_is_refused(monkeypatch, change, lacking):
    check_optuna()
    change(monkeypatch)
    monkeypatch.setattr(optuna, "__version__", "9.9.9")
    with pytest.raises(SweepError, match=rf"{lacking}, which optuna 9\.9\.9 does not have: install optuna=="):
        check_optuna()
