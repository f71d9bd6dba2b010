"""A round against references written here, what bounds it, what noise it gets, and what it refuses."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fairsweep.datasets.selection.partitions import partition_clients, split_held_out
from fairsweep.datasets.selection.randomness import derive, generator
from fairsweep.trainables.federated.dpfedavg import Dpfedavg, training_columns
from fairsweep.trainables.federated.fedavg_config import DpfedavgConfig, FedavgConfig
from fairsweep.trainables.learners import build_learner, check, plan_privacy, twin_of
from fairsweep.trainables.models.model import build_model
from fairsweep.trainables.models.models import MODELS
from fairsweep.trainables.privacy.clipping import Clipping

ONE_ROUND = {"rounds": 1, "noise_multiplier": 0.7, "sampling_rate": 0.6}


def flat(learner):
    return torch.cat([value.flatten() for value in learner.weights().values()])


def local_order(task, partition, client, round_number, epoch):
    """The documented order of a client's examples: by a keyed number for each example of the training partition."""
    drawn = generator(task.keys.train, "local order", round_number, epoch).random(len(partition.order))
    own = slice(partition.offsets[client], partition.offsets[client + 1])
    return partition.order[own][np.argsort(drawn[own], kind="stable")]


def softmax_gradient(weights_KP, bias_K, inputs_BP, labels_B):
    """The gradient of the mean cross-entropy of softmax regression, by hand."""
    logits = inputs_BP @ weights_KP.T + bias_K
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    shares[np.arange(len(labels_B)), labels_B] -= 1
    shares /= len(labels_B)
    return shares.T @ inputs_BP, shares.sum(axis=0)


def clip(update, kind, norm, layers):
    if kind == "flat":
        return update * min(1.0, norm / np.linalg.norm(update))
    out = update.copy()
    for part in layers:
        out[part] *= min(1.0, norm / math.sqrt(len(layers)) / np.linalg.norm(out[part]))
    return out


@pytest.mark.parametrize("execution", ["batched", "sequential"])
def test_a_round_equals_a_plain_reference_in_float64(make_task, execution):
    """Softmax regression in numpy, one loop a client: momentum, weight decay, proximal term, clipping, keyed noise."""
    task = make_task("linear", n=60, classes=3)
    config = DpfedavgConfig(
        **ONE_ROUND,
        clients={"partition": "quantity", "count": 9, "alpha": 1.0, "held_out": 0.1, "max_examples": 11},
        local={
            "epochs": 2,
            "batch_size": 4,
            "proximal": 0.3,
            "optimizer": {"lr": 0.05, "momentum": 0.6, "weight_decay": 0.01},
        },
        server={"lr": 0.8},
        clipping={"l2_clip_norm": 0.25},
        performance={"execution": execution, "clients_at_once": 4},
    )
    learner = Dpfedavg(config, task)
    begin = flat(learner).double().numpy()
    learner.step()

    trained, _ = split_held_out(
        partition_clients(training_columns(task), config.clients, task.keys.data), config.clients
    )
    images = task.feed.images(task.rows).reshape(60, -1) / 127.5 - 1.0
    cohort = np.flatnonzero(generator(derive(task.keys.secret, "inclusion", 0), "poisson", 0).random(9) < 0.6)
    pixels = images.shape[1]
    total = np.zeros(len(begin))
    clipped = 0
    for client in cohort:
        weights, velocity = begin.copy(), np.zeros(len(begin))
        for epoch in range(2):
            order = local_order(task, trained, client, 0, epoch)
            for start in range(0, len(order), 4):
                batch = order[start : start + 4]
                matrix, bias = weights[: 3 * pixels].reshape(3, pixels), weights[3 * pixels :]
                parts = softmax_gradient(matrix, bias, images[batch], task.labels[batch])
                gradient = np.concatenate([part.ravel() for part in parts]) + 0.3 * (weights - begin) + 0.01 * weights
                velocity = 0.6 * velocity + gradient
                weights -= 0.05 * velocity
        update = weights - begin
        clipped += np.linalg.norm(update) > 0.25
        total += clip(update, "flat", 0.25, [])
    assert len(cohort) >= 3
    assert clipped >= 1
    noise = generator(task.keys.secret, "noise", 0, 0).standard_normal(len(begin), dtype="float32").astype(np.float64)
    expected = begin + 0.8 * (total + 0.7 * 0.25 * noise) / (0.6 * 9)
    np.testing.assert_allclose(flat(learner).double().numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("execution", "name"), [("sequential", "sgd"), ("batched", "sgd"), ("batched", "adam")])
def test_everything_on_one_client_without_noise_is_centralised_training(make_task, execution, name):
    """A convolutional network, three rounds of two passes, against torch's own optimiser in float64."""
    task = make_task("cnn", n=40)
    optimizer = {"name": name, "lr": 0.05 if name == "sgd" else 0.005}
    config = FedavgConfig(
        rounds=3,
        cohort_size=1,
        clients={"partition": "iid", "count": 1, "held_out": 0.0},
        local={"epochs": 2, "batch_size": 8, "optimizer": optimizer},
        performance={"execution": execution},
    )
    learner = build_learner(config, task)
    for _ in range(3):
        learner.step()
    model = build_model(task.model, task.image_shape, 2, task.keys.train).double()
    images = torch.from_numpy(task.feed.images(task.rows)).permute(0, 3, 1, 2).double() / 127.5 - 1
    labels = torch.from_numpy(task.labels)
    for number in range(3):
        make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[name]
        central = make(model.parameters(), lr=optimizer["lr"])
        for epoch in range(2):
            order = local_order(task, learner.partition, 0, number, epoch)
            for start in range(0, 40, 8):
                batch = order[start : start + 8]
                central.zero_grad()
                F.cross_entropy(model(images[batch]), labels[batch]).backward()
                central.step()
    for name, value in learner.weights().items():
        torch.testing.assert_close(value.double(), model.state_dict()[name], rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def make_clipped(make_task):
    made = {}

    def make(kind, execution, rate):
        key = kind, execution, rate
        if key not in made:
            clipping = {"quantile": 0.5} if kind == "adaptive" else {"kind": kind}
            config = DpfedavgConfig(
                **ONE_ROUND,
                clients={"partition": "quantity", "count": 10, "alpha": 0.5},
                local={"batch_size": 3, "optimizer": {"lr": rate}},
                clipping=clipping,
                performance={"execution": execution, "clients_at_once": 4},
            )
            made[key] = Dpfedavg(config, make_task("cnn", n=60))
        return made[key]

    return make


class TestSensitivity:
    """Removing any one client changes the sum before noise by at most S, and the shifted count by at most 1/2."""

    @settings(max_examples=25, deadline=None)
    @given(
        kind=st.sampled_from(["flat", "per_layer", "adaptive"]),
        execution=st.sampled_from(["batched", "sequential"]),
        rate=st.sampled_from([1e-4, 0.1, 3.0, 1e30]),
        norm=st.floats(1e-4, 10.0),
        cohort=st.sets(st.integers(0, 9), min_size=1),
        data=st.data(),
    )
    def test_of_the_sum(self, make_clipped, kind, execution, rate, norm, cohort, data):
        learner = make_clipped(kind, execution, rate)
        leaver = data.draw(st.sampled_from(sorted(cohort)))
        clipping = Clipping("flat" if kind == "adaptive" else kind, norm)
        whole, without = (
            learner._trainer.sums(learner._weights, 0, np.array(sorted(clients), dtype=np.int64), clipping)
            for clients in (cohort, cohort - {leaver})
        )
        assert bool(whole.total.isfinite().all())
        change = float((whole.total.double() - without.total.double()).norm())
        assert change <= norm * (1 + 1e-4) + 1e-7 * float(whole.total.norm())
        if kind == "adaptive":
            learner._norm.l2_clip_norm = norm
            counts = [learner._norm.count(sums.norms) for sums in (whole, without)]
            assert abs(counts[0] - counts[1]) == 0.5

    def test_clipping_keeps_short_updates_and_cuts_long_ones_to_the_norm(self, make_clipped):
        learner = make_clipped("flat", "batched", 0.1)
        everyone = np.arange(10)
        free = learner._trainer.sums(learner._weights, 0, everyone, Clipping("none", None))
        for client in range(10):
            alone = np.array([client])
            norm = float(free.norms[list(free.clients).index(client)])
            cut = learner._trainer.sums(learner._weights, 0, alone, Clipping("flat", norm / 2))
            assert float(cut.total.norm()) == pytest.approx(norm / 2, rel=1e-5)
            assert cut.clipped.all()
            kept = learner._trainer.sums(learner._weights, 0, alone, Clipping("flat", norm * 2))
            assert float(kept.total.norm()) == pytest.approx(norm, rel=1e-5)
            assert not kept.clipped.any()


class TestNoise:
    def changes(self, make_task, **fields):
        """What one round changes when the clients change nothing: the noise alone, 3 x 3,072 + 3 weights."""
        config = DpfedavgConfig(
            rounds=3,
            sampling_rate=0.5,
            clients={"partition": "iid", "count": 20},
            local={"optimizer": {"lr": 1e-30}},
            **fields,
        )
        learner = Dpfedavg(config, make_task("linear", n=40, size=32, channels=3, classes=3))
        found, before = [], flat(learner)
        for _ in range(3):
            learner.step()
            after = flat(learner)
            found.append((after - before).double())
            before = after
        return found, learner

    def test_it_has_the_stated_variance_and_differs_by_round(self, make_task):
        changes, _ = self.changes(make_task, noise_multiplier=1.5, clipping={"l2_clip_norm": 2.0})
        for change in changes:
            # 9,219 numbers: the standard error of their standard deviation is 0.7%.
            assert float(change.std()) == pytest.approx(1.5 * 2.0 / 10, rel=0.03)
            assert abs(float(change.mean())) < 4 * 0.3 / math.sqrt(len(change))
        assert abs(float(torch.corrcoef(torch.stack(changes[:2]))[0, 1])) < 0.05

    def test_a_quantile_leaves_the_sum_a_little_more_of_it(self, make_task):
        clipping = {"l2_clip_norm": 2.0, "quantile": 0.5, "count_noise": 1.0, "learning_rate": 1e-9}
        changes, _ = self.changes(make_task, noise_multiplier=1.5, clipping=clipping)
        update_noise = (1.5**-2 - (2 * 1.0) ** -2) ** -0.5
        assert float(changes[0].std()) == pytest.approx(update_noise * 2.0 / 10, rel=0.03)

    def test_a_deployment_with_a_larger_cohort_is_simulated_with_less_of_it(self, make_task):
        changes, _ = self.changes(make_task, noise_multiplier=1.5, deployment_cohort=100)
        assert float(changes[0].std()) == pytest.approx(1.5 / 100, rel=0.03)

    def test_an_empty_round_gets_it_too_and_counts(self, make_task):
        config = DpfedavgConfig(
            rounds=1, sampling_rate=0.01, noise_multiplier=1.0, delta=1e-6, clients={"partition": "iid", "count": 10}
        )
        learner = Dpfedavg(config, make_task("linear", n=40))
        before = flat(learner)
        report = learner.step()
        assert (report.examples, report.steps) == (0, 1)
        assert math.isnan(report.loss)
        assert float((flat(learner) - before).norm()) > 0
        assert learner.privacy().steps == 1
        assert learner.privacy().epsilon.pld > 0


def test_training_changes_the_weights_and_learns(make_task):
    config = FedavgConfig(
        rounds=15,
        rounds_per_iteration=5,
        sampling_rate=0.5,
        clients={"partition": "iid", "count": 10},
        local={"batch_size": 5, "optimizer": {"lr": 0.01}},
    )
    task = make_task("linear", n=200)
    learner = build_learner(config, task)
    reports = [learner.step() for _ in range(3)]
    assert reports[-1].loss < reports[0].loss
    assert [report.steps for report in reports] == [5, 5, 5]
    assert (learner.predict(task.feed.images(task.rows)).argmax(1).numpy() == task.labels).mean() > 0.9


def test_the_clipping_norm_follows_the_quantile(make_task):
    """Without noise it settles where the asked share of the updates is at most S (Andrew et al. 2021, section 2.1)."""
    config = DpfedavgConfig(
        rounds=60,
        sampling_rate=1.0,
        noise_multiplier=0.0,
        clients={"partition": "quantity", "count": 20, "alpha": 0.5},
        local={"optimizer": {"lr": 1e-3}},
        server={"lr": 1e-6},
        clipping={"quantile": 0.7, "l2_clip_norm": 0.1, "learning_rate": 0.5},
    )
    learner = Dpfedavg(config, make_task("linear", n=100))
    norms = [learner.step().l2_clip_norm for _ in range(60)]
    assert norms[0] == 0.1
    everyone = learner._trainer.sums(learner._weights, 59, np.arange(20), Clipping("none", None))
    assert 0.6 <= (everyone.norms <= learner.l2_clip_norm).mean() <= 0.8


def test_a_twin_differs_in_privacy_alone(make_task):
    config = DpfedavgConfig(
        rounds=4,
        epsilon=3.0,
        clients={"partition": "iid", "count": 10},
        clipping={"quantile": 0.5},
        deployment_cohort=50,
        local={"proximal": 0.1},
    )
    twin = twin_of(config, "matched")
    assert (twin.name, twin.noise_multiplier, twin.clipping.kind, twin.epsilon) == ("matched", 0.0, "none", None)
    assert twin.deployment_cohort is None
    assert (twin.clients, twin.local, twin.sampling_rate) == (config.clients, config.local, config.sampling_rate)
    learner = build_learner(twin, make_task("linear", n=40))
    learner.step()
    assert learner.privacy().epsilon.pld == math.inf


def test_release_mode_reports_public_numbers_only(make_task):
    config = DpfedavgConfig(rounds=2, noise_multiplier=1.0, clients={"partition": "iid", "count": 10, "held_out": 0.0})
    report = Dpfedavg(config, make_task("linear", n=40, diagnostics=False)).step()
    assert math.isnan(report.loss)
    assert report.clients == ()
    assert report.examples == 4  # q times all examples


CLIENTS = {"partition": "iid", "count": 10}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sampling_rate": 0.0}, "greater than 0"),
        ({"sampling_rate": 1.5}, "less than or equal to 1"),
        ({"clipping": {"l2_clip_norm": 0.0}}, "greater than 0"),
        ({"clipping": {"quantile": 0.0}}, "greater than 0"),
        ({"clipping": {"quantile": 1.0}}, "less than 1"),
        ({"clipping": {"quantile": 0.5, "kind": "per_layer"}}, "kind flat"),
        ({"clipping": {"count_noise": 1.0}}, "belongs to a quantile"),
        (
            {"clipping": {"kind": "none"}, "epsilon": 1.0, "noise_multiplier": None},
            "without clipping, no amount of noise",
        ),
        ({"clipping": {"l2_clip_norm": None}}, "noise is measured in"),
        ({"epsilon": 1.0}, "exactly one of epsilon"),
        ({"cohort_size": 5}, "Poisson cohorts"),
        ({"local": {"epochs": 2, "steps": 3}}, "omit one"),
        ({"server": {"name": "yogi", "momentum": 0.5}}, "give betas"),
        ({"clients": {"partition": "iid"}}, "needs count"),
    ],
)
def test_configs_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        DpfedavgConfig(**{"noise_multiplier": 1.0, "clients": CLIENTS, **fields})


@pytest.mark.parametrize("field", ["epsilon", "noise_multiplier", "clipping"])
def test_fedavg_claims_nothing(field):
    with pytest.raises(ValidationError, match="kind: dpfedavg"):
        FedavgConfig(clients=CLIENTS, sampling_rate=0.5, **{field: 1.0})


@pytest.mark.parametrize("cohort", [{}, {"sampling_rate": 0.5, "cohort_size": 3}])
def test_fedavg_draws_cohorts_in_one_way(cohort):
    with pytest.raises(ValidationError, match="exactly one of sampling_rate and cohort_size"):
        FedavgConfig(clients=CLIENTS, **cohort)


def test_what_no_plan_affords_is_refused_before_the_start(make_task):
    base = {"noise_multiplier": 1.0, "clients": CLIENTS}
    for fields, message in [
        ({"delta": 0.2}, r"below 1/N = 0\.1"),
        ({"clipping": {"quantile": 0.5, "count_noise": 0.4}}, "count_noise must exceed noise_multiplier / 2"),
        ({"deployment_cohort": 1, "sampling_rate": 0.5}, "at least the simulated one, q N = 5"),
        ({"noise_multiplier": None, "epsilon": 1e9}, "affordable"),
    ]:
        with pytest.raises(ValueError, match=message):
            plan_privacy(DpfedavgConfig(**{**base, **fields}), 10)
    with pytest.raises(ValueError, match="number of clients 10"):
        plan_privacy(FedavgConfig(clients=CLIENTS, cohort_size=11), 10)
    with pytest.raises(ValueError, match="norm: group"):
        check(MODELS["cnn"](norm="batch"), DpfedavgConfig(**base))
    columns = training_columns(make_task("linear", n=8))
    for clients, message in [
        ({"partition": "iid", "count": 9}, "for 8 examples"),
        ({"partition": "user"}, "user column"),
        ({"partition": "dirichlet", "count": 2, "alpha": 1.0, "attribute": "race"}, "got 'race'"),
    ]:
        with pytest.raises(ValueError, match=message):
            DpfedavgConfig(**{**base, "clients": clients}).count_units(columns, bytes(32))


def test_a_plan_for_another_number_of_clients_is_refused(make_task):
    config = DpfedavgConfig(noise_multiplier=1.0, clients=CLIENTS)
    with pytest.raises(ValueError, match=r"population=11 \(must be 10\)"):
        Dpfedavg(config, make_task("linear", n=40), plan_privacy(config, 11))


def test_a_state_of_another_plan_is_refused(make_task):
    task = make_task("linear", n=40)
    made, other = (Dpfedavg(DpfedavgConfig(noise_multiplier=z, clients=CLIENTS), task) for z in (1.0, 0.5))
    with pytest.raises(ValueError, match="another privacy plan"):
        other.load(made.state())
