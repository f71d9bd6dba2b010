"""Both learners on a CUDA device: the same numbers as on the CPU, up to rounding, and the same promises."""

import numpy as np
import pytest
import torch

from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.dpsgd.dpsgd_learner import Dpsgd
from fairsweep.trainables.learning.gpu_memory import cap_gpu_memory, peak_memory
from fairsweep.trainables.learning.learner import LearningTask, TrialKeys
from fairsweep.trainables.models.augmentation import AugmentationConfig, augment
from fairsweep.trainables.models.models import MODELS
from fairsweep.trainables.privacy.noise import GaussianNoise
from fairsweep.trainables.sgd.sgd_learner import Sgd, SgdConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CUDA = "cuda"
MODES = ["bookkeeping", "functorch", "hooks", "ghost"]


class ArrayFeed:
    """Images held in memory: a feed needs no dataset to be one."""

    def __init__(self, images):
        self.everything = images

    def batches(self, rows, sampler, start=0, stop=None):
        from fairsweep.datasets.feeds.feed import Batch, step_range

        for step in step_range(sampler, start, stop):
            positions = sampler.positions(step)
            chosen = rows[positions]
            yield Batch(step, positions, chosen, chosen, self.everything[chosen])

    def images(self, rows):
        return self.everything[rows]

    def close(self):
        pass


def make_task(device, model, n=96, size=32):
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, n)
    images = random.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    images[labels == 1] //= 2
    keys = TrialKeys(data=seed_key(1, "data"), train=seed_key(1, "train"), secret=seed_key(1, "secret"))
    return LearningTask(
        model=MODELS[model](),
        classes=2,
        image_shape=(size, size, 3),
        rows=np.arange(n),
        labels=labels.astype(np.int64),
        groups={"half": (np.arange(n) % 2).astype(np.int16)},
        feed=ArrayFeed(images),
        keys=keys,
        device=torch.device(device),
        diagnostics=True,
        value_names={"label": ("0", "1"), "half": ("even", "odd")},
    )


def private(mode="auto", z=0.0, epochs=2):
    return DpsgdConfig(
        epochs=epochs,
        batch_size=32,
        noise_multiplier=z,
        optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9},
        performance={"gradient_mode": mode},
    )


def trained(learner):
    while learner.iteration < learner.iterations:
        learner.step()
    return learner


def distance(one, other):
    """Largest difference of weights, relative to the largest weight."""
    return max(float((one[k] - other[k]).abs().max() / (one[k].abs().max() + 1e-6)) for k in one)


@pytest.fixture(autouse=True)
def exact_products():
    """TF32 would hide what is compared here."""
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn


@pytest.mark.parametrize("model", ["linear", "cnn", "resnet18"])
def test_sgd_on_cuda_agrees_with_the_cpu(model):
    config = SgdConfig(epochs=1, batch_size=32, optimizer={"name": "sgd", "lr": 0.01})
    on = {d: trained(Sgd(config, make_task(d, model))) for d in ("cpu", CUDA)}
    assert distance(on["cpu"].weights(), on[CUDA].weights()) < 1e-3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", ["linear", "cnn", "resnet18"])
def test_clipped_training_on_cuda_agrees_with_the_cpu(model, mode):
    on = {d: trained(Dpsgd(private(mode, epochs=1), make_task(d, model))) for d in ("cpu", CUDA)}
    assert on[CUDA].gradient_mode == mode
    assert distance(on["cpu"].weights(), on[CUDA].weights()) < 5e-3


@pytest.mark.parametrize(
    "fields",
    [
        {"sampler": "truncated_poisson", "max_batch_size": 34},
        {"sampler": "weighted_poisson", "sampling_weights": {"attribute": "half", "weights": {"odd": 1.5}}},
        {"remedy": {"kind": "class_weights", "weights": {"1": 3.0}}},
    ],
    ids=["truncated", "weighted", "class weights"],
)
def test_other_orders_and_class_weights_on_cuda_agree_with_the_cpu(fields):
    given = DpsgdConfig(**{**private("bookkeeping", epochs=1).model_dump(), **fields})
    on = {d: trained(Dpsgd(given, make_task(d, "cnn"))) for d in ("cpu", CUDA)}
    assert distance(on["cpu"].weights(), on[CUDA].weights()) < 5e-3


@pytest.mark.parametrize("kind", ["group_sampling", "group_reweighting", "group_dro"])
def test_remedies_on_cuda_agree_with_the_cpu(kind):
    remedy = {"kind": kind, "attributes": ["half", "label"]}
    config = SgdConfig(epochs=1, batch_size=32, optimizer={"name": "sgd", "lr": 0.01}, remedy=remedy)
    on = {d: trained(Sgd(config, make_task(d, "cnn"))) for d in ("cpu", CUDA)}
    assert distance(on["cpu"].weights(), on[CUDA].weights()) < 1e-3
    states = [on[d].state()["remedy"].get("weights", torch.zeros(1)) for d in ("cpu", CUDA)]
    torch.testing.assert_close(*states, rtol=1e-3, atol=1e-5)


def test_noise_on_cuda_has_the_stated_deviation_and_differs_between_secrets_and_steps():
    device = torch.device(CUDA)
    size = 200_000
    first, second = GaussianNoise(2.5, b"a" * 32), GaussianNoise(2.5, b"b" * 32)
    draws = []
    for noise, step in [(first, 0), (first, 1), (second, 0)]:
        total = torch.zeros(size, device=device)
        noise.add_to(total, step)
        draws.append(total.double())
    for total in draws:
        # The standard error of a standard deviation from n normal draws is sigma / sqrt(2 n).
        assert abs(float(total.std()) - 2.5) < 5 * 2.5 / (2 * size) ** 0.5
    correlation = torch.corrcoef(torch.stack(draws))
    assert float((correlation - torch.eye(3, device=device, dtype=torch.float64)).abs().max()) < 5 / size**0.5
    again = torch.zeros(size, device=device)
    first.add_to(again, 0)
    assert torch.equal(again.double(), draws[0])
    on_cpu = torch.zeros(size)
    first.add_to(on_cpu, 0)  # from a key of 128 bits: torch's own generator would keep 64 of it
    assert torch.equal(again.cpu(), on_cpu)


@pytest.mark.parametrize("model", ["cnn", "resnet18"])
def test_a_resumed_private_training_on_cuda_repeats_itself(model):
    task = make_task(CUDA, model)
    whole = trained(Dpsgd(private("bookkeeping", z=0.8), task))
    half = Dpsgd(private("bookkeeping", z=0.8), task)
    half.step()
    resumed = Dpsgd(private("bookkeeping", z=0.8), task)
    resumed.load(half.state())
    trained(resumed)
    # cuDNN's default kernels may add in another order from one call to the next.
    assert distance(whole.weights(), resumed.weights()) < 1e-3
    assert whole.privacy().epsilon == resumed.privacy().epsilon


def test_auto_chooses_a_mode_on_cuda_and_changes_the_weights():
    learner = Dpsgd(private(z=1.0), make_task(CUDA, "cnn"))
    before = learner.weights()
    trained(learner)
    assert learner.gradient_mode in [*MODES, "expanded_weights"]
    assert distance(before, learner.weights()) > 1e-4


def test_augmentation_draws_the_same_on_both_devices():
    """Up to rounding, which a map to between two pixels carries into values."""
    config = AugmentationConfig(
        flip=True, crop=2, rotation=15, scale=(0.85, 1.2), shear=10, saturation=0.2, blur=1.0, noise=0.15
    )
    images = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    here, there = (
        augment(images.to(device), config, seed_key(1, "train"), 3, np.arange(64)).cpu() for device in ("cpu", CUDA)
    )
    torch.testing.assert_close(there, here, atol=1e-3, rtol=0)


def test_the_peak_of_a_training_is_what_it_needs():
    """It runs again with a cap a quarter above the peak, and not with a fifth of the peak."""
    torch.cuda.init()
    with peak_memory(CUDA) as idle:
        pass
    assert idle.peak_bytes < 64 * 2**20
    assert 0 < idle.context_bytes < idle.total_bytes == torch.cuda.get_device_properties(0).total_memory
    with peak_memory(CUDA) as one:
        block = torch.empty(2**30, dtype=torch.uint8, device=CUDA)
        del block
    assert 2**30 <= one.peak_bytes - idle.peak_bytes < 2**30 + 64 * 2**20
    big = make_task(CUDA, "resnet18", n=256, size=128)
    config = SgdConfig(epochs=1, batch_size=256)
    trained(Sgd(config, big))  # cuDNN tries its kernels
    with peak_memory(CUDA) as found:
        trained(Sgd(config, big))
    assert found.peak_bytes > 2**29
    try:
        cap_gpu_memory(1.25 * found.needed_bytes / found.total_bytes)
        trained(Sgd(config, big))
        cap_gpu_memory(0.2 * found.peak_bytes / found.total_bytes)
        with pytest.raises(torch.OutOfMemoryError):
            trained(Sgd(config, big))
    finally:
        cap_gpu_memory(1)
