"""Workers of federated trials: in bundles of the trial's own placement group, and refused where they are of no use."""

import pytest

from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.analysis.records.files import read_json
from fairsweep.sweeps.plan import plan_sweep
from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.planning.machines import Machine, check_resources, slots
from fairsweep.sweeps.store.ledger import Ledger
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.trial.trial import Trial

FEDERATED = {
    "kind": "dpfedavg",
    "rounds": 2,
    "clients": {"partition": "iid", "count": 10},
    "sampling_rate": 0.5,
    "noise_multiplier": 1.0,
    "resources": {"cpu": 0.5, "workers": 2, "worker_cpu": 0.5},
}


@pytest.fixture
def federated(mapping):
    mapping |= {"learners": [FEDERATED], "seeds": 1}
    mapping["imbalance"]["share"] = 0.5
    return mapping


def test_a_sweep_with_workers_gives_the_numbers_of_one_without(federated, toy, tmp_path, ray_session):
    Sweep.from_mapping(federated).run(quiet=True)
    (entry,) = Ledger(tmp_path / "out").entries().values()
    assert entry.state.state == "done", entry.state.traceback
    assert read_json(entry.folder / "data.json")["clients"]["workers"] == 2
    (trial,) = expand(Sweep.from_mapping(federated), toy)
    alone = Trial(trial.config, tmp_path / "alone").run()
    assert read_cells(entry.folder / "cells.parquet").table == read_cells(alone / "cells.parquet").table


def test_what_no_cluster_has_room_for_is_refused(federated, toy):
    trials = expand(Sweep.from_mapping(federated), toy)
    check_resources(trials, [Machine(1.5, 0)])
    check_resources(trials, [Machine(1, 0), Machine(0.5, 0)])
    assert slots(trials * 4, [Machine(3, 0)], None) == 2
    with pytest.raises(SweepError, match=r"2 workers need cpu=1\.5, gpu=0 together, but there is cpu=1"):
        check_resources(trials, [Machine(1, 0)])


def test_workers_of_a_learner_without_clients_are_refused(mapping):
    mapping["resources"] = {"workers": 1, "worker_cpu": 0.1, "cpu": 0.1}
    with pytest.raises(SweepError, match="workers train the clients of federated learners"):
        plan_sweep(Sweep.from_mapping(mapping))
    mapping["resources"] = {"workers": 1, "worker_cpu": 0}
    with pytest.raises(SweepError, match="a worker must reserve something"):
        Sweep.from_mapping(mapping)


@pytest.mark.parametrize(
    ("clients", "message"),
    [
        ({"partition": "iid", "count": 500}, r"clients\.count=500 for 120 examples"),
        ({"partition": "user"}, "user column"),
        ({"partition": "dirichlet", "count": 5, "alpha": 1.0, "attribute": "race"}, "got 'race'"),
        ({"partition": "attribute", "attribute": "tone", "count": 1}, "each of the 2 values"),
    ],
)
def test_a_training_set_that_cannot_be_divided_is_refused_before_the_start(federated, clients, message):
    federated["learners"] = [FEDERATED | {"clients": clients}]
    with pytest.raises(SweepError, match=message):
        plan_sweep(Sweep.from_mapping(federated))


def test_clients_are_what_a_plan_counts(federated):
    (line,) = plan_sweep(Sweep.from_mapping(federated)).privacy
    assert (line.plan.unit, line.plan.population, line.plan.steps) == ("client", 10, 2)


def test_a_twin_of_a_federated_learner_is_planned_and_named_after_what_it_has(federated, toy):
    federated["learners"] = [
        FEDERATED | {"name": "private", "noise_multiplier": {"grid": [0.5, 1.0]}},
        {"name": "matched", "twin_of": "private", "resources": {"cpu": 1}},
    ]
    labels = {trial.label for trial in expand(Sweep.from_mapping(federated), toy)}
    assert labels == {"private-z.5_s0", "private-z1_s0", "matched_s0"}
