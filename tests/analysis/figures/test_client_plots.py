"""Figures of federated clients show the recorded numbers, and nothing where there are no clients."""

import numpy as np
import pytest

import fairsweep.analysis as analysis
import fairsweep.analysis.figures.plots as plots
from fairsweep.analysis.records.file_names import DATA, TRAINING
from fairsweep.analysis.records.files import read_json, write_json
from fairsweep.analysis.records.training_records import training_table, write_training

# By share, then value of tone (-1: all clients): mean accuracy of clients and that of the worst tenth.
SERVED = {0.5: {-1: (0.8, 0.6), 0: (0.85, 0.7), 1: (0.75, 0.5)}, 0.9: {-1: (0.82, 0.4), 0: (0.9, 0.8), 1: (0.5, 0.3)}}
LEARNER = {"kind": "dpfedavg", "epsilon": 3.0, "noise_multiplier": None, "name": "federated"}


def clients(share, iteration):
    return [
        {
            "attribute": "tone" if value >= 0 else "",
            "value": value,
            "clients": 20 if value < 0 else 10,
            "accuracy_mean": mean - 0.1 * (2 - iteration),
            "accuracy_variance": 0.01,
            "accuracy_worst_decile": worst,
            "updates": 8,
            "mean_update_norm": 1.0 + value,
            "clipped_share": 0.5,
            "cosine": 0.3,
        }
        for value, (mean, worst) in SERVED[share].items()
    ]


@pytest.fixture
def federated(simulate, tmp_path):
    """Two levels, two divisions among clients, two replicates."""
    simulation = simulate["simulation"](
        tmp_path / "federated",
        simulate["face_words"],
        ("tone", "shape"),
        "smiling",
        10,
        lambda learner, level, codes, label: np.full(len(label), 0.8),
    )
    for share in SERVED:
        for replicate in range(2):
            for alpha in (0.1, 10.0):
                learner = LEARNER | {"clients": {"partition": "dirichlet", "count": 3, "alpha": alpha}}
                imbalance = {"attribute": "tone", "majority": "light", "share": share, "size": 100}
                counts = [(0, 0, 0, round(100 * share)), (1, 0, 0, round(100 - 100 * share))]
                folder = simulation.trial(
                    learner, imbalance, f"{share}-{alpha:g}", replicate, counts=counts, privacy=statement()
                )
                rows = [{"iteration": i, "loss": 1.0, "clients": clients(share, i)} for i in (1, 2)]
                write_training(folder / TRAINING, training_table(rows))
                data = read_json(folder / DATA)
                held = {"values": [0, 1], "counts": [[5, 1], [0, 6], [3, 3]] if alpha < 1 else [[4, 2]] * 3}
                facts = {"count": 3, "listed": {"tone": held, "label": held}}
                write_json(folder / DATA, data | {"clients": facts})
    simulation.write_sweep_json()
    return analysis.load(simulation.folder)


def statement():
    """What a simulation of a deployment states."""
    return {
        "mode": "research",
        "unit": "client",
        "delta": 1e-4,
        "epsilon": {"pld": 3.0, "rdp": 3.5},
        "noise_multiplier": 1.0,
        "steps": 10,
        "simulation": "A simulation: 3 clients stand for 1000.",
    }


def lines(figure):
    return {(trace.xaxis, trace.name): trace for trace in figure.data}


def test_clients_are_a_long_table(federated):
    table = federated.clients()
    assert len(table) == 8 * 2 * 3
    assert set(table["value"]) == {"", "light", "dark"}
    dark = table[(table["value"] == "dark") & (table["iteration"] == 2)]
    assert set(dark["accuracy_mean"].round(9)) == {0.75, 0.5}
    assert federated.diagnostics().empty
    assert "clients" not in federated.training()


def test_client_accuracy_shows_the_mean_and_the_worst_tenth_by_level(federated):
    figure = plots.client_accuracy(federated)
    assert len(figure.data) == 2 * 3 * 2  # learners, groups with all, quantities
    shown = lines(figure)
    for panel in ("x", "x2"):
        for name, value in (("light tone", 0), ("dark tone", 1), ("all clients", -1)):
            np.testing.assert_allclose(shown[panel, name].y, [SERVED[share][value][0] for share in (0.5, 0.9)])
            worst = shown[panel, f"{name}, worst decile"]
            np.testing.assert_allclose(worst.y, [SERVED[share][value][1] for share in (0.5, 0.9)])
            assert worst.line.dash == "dot"
            assert worst.customdata[:, 1].tolist() == [2, 2]


def test_composition_shows_each_distinct_division_once(federated):
    figure = plots.client_composition(federated)
    assert [annotation.text for annotation in figure.layout.annotations] == ["alpha 0.1", "alpha 10"]
    first = [trace for trace in figure.data if trace.xaxis == "x"]
    assert sorted(zip(*(trace.y.tolist() for trace in first), strict=True)) == [(0, 6), (3, 3), (5, 1)]


def test_updates_are_drawn_by_group(federated):
    figure = plots.client_diagnostics(federated, plots.series_of(federated)[0])
    norms = [trace for trace in figure.data if trace.xaxis == "x"]
    assert {tuple(trace.y) for trace in norms} == {(1.0, 1.0), (2.0, 2.0)}


def test_the_report_shows_clients_and_says_that_a_deployment_is_simulated(federated):
    text = analysis.write_report(federated.location.path).read_text()
    assert "Accuracy of federated clients on their own held-out images" in text
    assert "Training images of each federated client" in text
    assert "Simulated deployment: its ε" in text


def test_without_clients_there_is_no_figure(faces):
    results = analysis.load(faces.folder)
    assert plots.client_accuracy(results) is None
    assert plots.client_composition(results) is None
    assert plots.client_diagnostics(results, "private") is None
    assert results.clients().empty
