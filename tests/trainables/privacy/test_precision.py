"""Private gradients are computed in full float32, whatever the process allows elsewhere."""

import pytest
import torch
from torch.overrides import TorchFunctionMode

from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.dpsgd.dpsgd_learner import Dpsgd
from fairsweep.trainables.federated.dpfedavg import Dpfedavg
from fairsweep.trainables.federated.fedavg_config import DpfedavgConfig


def allowed():
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


@pytest.fixture
def lax():
    before = allowed()
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


class Products(TorchFunctionMode):
    """Notes what is allowed at each layer's product."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in ("linear", "conv2d", "bmm"):
            self.seen.append(allowed())
        return func(*args, **(kwargs or {}))


def learners(make_task):
    mode = {"gradient_mode": "bookkeeping"}
    yield Dpsgd(DpsgdConfig(epochs=1, batch_size=32, noise_multiplier=1.0, performance=mode), make_task("cnn", n=64))
    clients = {"partition": "iid", "count": 8}
    for execution in ("batched", "sequential"):
        config = DpfedavgConfig(
            rounds=1,
            sampling_rate=1.0,
            noise_multiplier=1.0,
            clients=clients,
            performance={"execution": execution},
        )
        yield Dpfedavg(config, make_task("linear", n=64))


def test_a_private_step_uses_no_tf32_and_leaves_the_process_as_it_was(make_task, lax):
    for learner in learners(make_task):
        with Products() as products:
            learner.step()
        assert ("highest", False) in products.seen
        assert allowed() == ("high", True)
