"""Initial weights of a sweep whose file does not name them: PyTorch's, but those of before where it began before."""

from __future__ import annotations

from fairsweep.sweeps.spec.sections import named_initial
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.store.description import Description
from fairsweep.sweeps.syntax.dimensions import Space


def with_initial(sweep: SweepSpec) -> SweepSpec:
    """Return a sweep that names the initial weights of its model, where that has a choice of them.

    A folder of an earlier version does not name them in ``sweep.json``: its sweep stays as it is and keeps those of
    before, so that it is resumed and extended without training anything anew.

    Raises:
        SweepError: if a newer fairsweep wrote the folder.
    """
    named = named_initial(sweep.model.raw)
    if named == sweep.model.raw or _is_former(sweep):
        return sweep
    return sweep.model_copy(update={"model": Space.parse(named)})


def _is_former(sweep: SweepSpec) -> bool:
    found = Description.read(sweep.folder)
    model = {} if found is None else found.content["sweep"].get("model") or {}
    return found is not None and named_initial(model) != model
