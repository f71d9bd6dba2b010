"""Private names of Optuna that fairsweep uses: rows of a study in its storage, and what samplers know of its space.

Optuna's public calls do not serve. `Study.ask` samples into the storage field by field, so that a kill would leave a
setting half asked; `Study.add_trial` writes one whole, but nothing public then notes facts with it, or tells what
became of it, for `Study.tell` samples again; and what a sampler keeps with a study cannot be copied at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import optuna
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from fairsweep.sweeps.syntax.errors import unknown_version

_TESTED = "5.0.0"
_CONSTRAINT = "constraints:"
_SPACES = ("_search_space", "_intersection_search_space")
_CALLS = (
    *("get_study_id_from_name", "get_study_system_attrs", "set_study_system_attr"),
    *("get_trial_id_from_study_id_trial_number", "create_new_trial", "get_trial", "get_all_trials", "get_n_trials"),
    *("set_trial_user_attr", "set_trial_system_attr", "set_trial_state_values"),
)


class StudyRows:
    """The rows of one study in a storage. Settings are counted from 0, in the order in which they were added.

    Args:
        storage: where the study is.
        name: of the study, which exists.

    Raises:
        SweepError: if this version of Optuna stores studies in another way.
    """

    def __init__(self, storage: BaseStorage, name: str) -> None:
        check_optuna()
        self._storage = storage
        self._study = storage.get_study_id_from_name(name)

    def __len__(self) -> int:
        """Count the settings."""
        return self._storage.get_n_trials(self._study)

    def trials(self) -> Sequence[FrozenTrial]:
        """Return all settings; they must not be changed."""
        return self._storage.get_all_trials(self._study, deepcopy=False)

    def trial(self, number: int) -> FrozenTrial:
        """Return one setting."""
        return self._storage.get_trial(self._id(number))

    def add(self, trial: FrozenTrial) -> None:
        """Write one more setting, whole."""
        self._storage.create_new_trial(self._study, trial)

    def note(self, number: int, name: str, value: object) -> None:
        """Note a fact with a setting, as a user attribute."""
        self._storage.set_trial_user_attr(self._id(number), name, value)

    def opened(self, study: optuna.Study, number: int) -> Trial:
        """Return a setting as `Study.ask` gave it; whoever opens one samples for it, here without traces."""
        study.sampler = RandomSampler(seed=0)
        return Trial(study, self._id(number))

    def finish(self, number: int, told: FrozenTrial) -> None:
        """Write what became of a setting."""
        for name, value in told.system_attrs.items():
            if name.startswith(_CONSTRAINT):
                self._storage.set_trial_system_attr(self._id(number), name, value)
        # The state comes last: until then the setting counts as waiting, and is told again.
        self._storage.set_trial_state_values(self._id(number), told.state, told.values)

    def copy_attributes(self, source: StudyRows) -> None:
        """Write what samplers keep with another study, such as the parents of a generation."""
        known = self._storage.get_study_system_attrs(self._study)
        for name, value in source._storage.get_study_system_attrs(source._study).items():
            if known.get(name) != value:
                self._storage.set_study_system_attr(self._study, name, value)

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study, number)


def without_constraints(trial: FrozenTrial) -> FrozenTrial:
    """Change a setting that a kill has left half told to one that is not told, and return it."""
    trial.system_attrs = {n: value for n, value in trial.system_attrs.items() if not n.startswith(_CONSTRAINT)}
    return trial


def keep_space(sampler: BaseSampler, before: BaseSampler | None) -> None:
    """Hand a sampler what the one before it knows of which parameters all settings of the study have.

    It would find the same, but look through all settings for it.
    """
    for name in _SPACES:
        if isinstance(known := getattr(before, name, None), IntersectionSearchSpace):
            setattr(sampler, name, known)


def check_optuna() -> None:
    """Refuse a version of Optuna that stores studies in another way than the one that is known here.

    Raises:
        SweepError: with what is lacking and the remedy.
    """
    lacking = [f"BaseStorage.{call}" for call in _CALLS if not hasattr(BaseStorage, call)]
    probe = create_trial(state=TrialState.RUNNING, system_attrs={f"{_CONSTRAINT}probe": 1.0})
    read = None
    with suppress(AttributeError, NotImplementedError):
        read = probe.constraints
    if read != {"probe": 1.0}:
        lacking.append(f"system attributes {_CONSTRAINT!r}")
    if lacking:
        raise unknown_version("optuna", optuna.__version__, ", ".join(lacking), _TESTED)
