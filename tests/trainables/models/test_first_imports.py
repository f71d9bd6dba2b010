"""What a worker does not import before its first step: torch's compiler and the algebra behind it take seconds."""

import subprocess
import sys

LEARN = """
import sys

import torch

from fairsweep.trainables.models.cnn import CnnConfig
from fairsweep.trainables.models.model import build_model
from fairsweep.trainables.models.optimizers import AdamOptimizer, AdamwOptimizer, SgdOptimizer

for config in (SgdOptimizer(), AdamOptimizer(name="adam"), AdamwOptimizer(name="adamw")):
    model = build_model(CnnConfig(), (28, 28, 1), 2, bytes(32))
    optimizer = config.build(model.parameters())
    model(torch.zeros(1, 1, 28, 28)).sum().backward()
    before = [parameter.clone() for parameter in model.parameters()]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    optimizer.load_state_dict(optimizer.state_dict())
    assert any((a != b).any() for a, b in zip(before, model.parameters(), strict=True))
print(sorted({"torch._dynamo", "sympy"} & set(sys.modules)))
"""


def test_a_model_takes_a_step_without_torchs_compiler():
    found = subprocess.run([sys.executable, "-c", LEARN], capture_output=True, text=True, check=False)
    assert found.stdout.strip() == "[]", found.stderr
