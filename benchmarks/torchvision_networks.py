"""Torchvision's classification networks, and which of them train under which learner: the table in docs/models.md.

python benchmarks/torchvision_networks.py [FAMILY …]

Each network is built and run on the meta device, as `fairsweep plan` does it, on the smallest images of 32, 64, 128 and
224 pixels that it takes, and put to the learners' own checks. Nothing is trained and nothing downloaded: the published
weights that `norm: frozen` needs are a file of the right shapes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torchvision.models import get_model_builder

from fairsweep.trainables.learners import LEARNERS
from fairsweep.trainables.models.examination import Examined, examine
from fairsweep.trainables.models.foreign import TorchvisionModel, torchvision_names
from fairsweep.trainables.models.model import ModelError, outline

SIZES = (32, 64, 128, 224)
CLASSES = 7
LEARNER_FIELDS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "fedavg": {"cohort_size": 2, "clients": {"count": 4}},
    "dpfedavg": {"noise_multiplier": 1, "sampling_rate": 0.5, "clients": {"count": 4}},
    "sisa": {"inner": {"kind": "sgd"}},
}
MODES = ("bookkeeping", "functorch")
HEADING = """| family | networks | images | `sgd`, `fedavg`, `dpfedavg`, `sisa` | `dpsgd` | why not by bookkeeping |
|---|---|---|---|---|---|"""


def examined(name: str, norm: str, folder: Path) -> tuple[int, Examined] | str:
    """Return the smallest images that a network takes with what it is found to be, or why it takes none."""
    why = ""
    for size in SIZES:
        shape, given = (size, size, 3), {}
        try:
            if norm == "frozen":
                state = outline(TorchvisionModel(name=name, norm="batch"), shape, CLASSES).state_dict()
                given["weights"] = folder / f"{name}.pth"
                torch.save({key: torch.zeros(()).expand(value.shape) for key, value in state.items()}, given["weights"])
            return size, examine(TorchvisionModel(name=name, norm=norm, **given), shape, CLASSES)
        except ModelError as error:
            why = str(error)
    return why


def has_batch_norm(name: str) -> bool:
    """Return whether a network has BatchNorm, which ``norm`` replaces."""
    network = outline(TorchvisionModel(name=name, norm="batch"), (SIZES[-1], SIZES[-1], 3), CLASSES)
    return any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


def refusal(kind: str, found: Examined, name: str, **fields: Any) -> str:
    """Return why a learner refuses a network; nothing where it takes it."""
    try:
        LEARNERS[kind].config(**fields).check_network(name, found)
    except ValueError as error:
        return str(error)
    return ""


def facts(name: str, norm: str, folder: Path) -> tuple[str, str, str, str]:
    """Return the cells of a network behind its name."""
    found = examined(name, norm, folder)
    if isinstance(found, str):
        return "none", "no", "no", found
    size, network = found
    refused = {kind: refusal(kind, network, name, **fields) for kind, fields in LEARNER_FIELDS.items()}
    others = "yes" if not any(refused.values()) else "; ".join(f"{kind}: {why}" for kind, why in refused.items() if why)
    faults = {}
    for mode in MODES:
        private = {"noise_multiplier": 1, "performance": {"gradient_mode": mode}}
        faults[mode] = refusal("dpsgd", network, name, **private)
        if not faults[mode]:
            break
    works = next((mode for mode in MODES if faults.get(mode) == ""), "no")
    why = faults["bookkeeping"].partition(" (ValueError: ")[2].partition(": choose gradient_mode")[0]
    return str(size), others, works, why


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", help="modules of torchvision.models; all by default")
    asked = parser.parse_args().families
    warnings.filterwarnings("ignore", message="There is a performance drop")
    rows: dict[tuple[str, ...], list[str]] = defaultdict(list)
    tried: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        for name in torchvision_names():
            family = get_model_builder(name).__module__.rpartition(".")[2]
            if asked and family not in asked:
                continue
            start = time.monotonic()
            cells = facts(name, "group", Path(folder))
            frozen = cells
            if family not in tried and has_batch_norm(name):  # its others have the same kinds of layers
                tried.add(family)
                frozen = facts(name, "frozen", Path(folder))
            print(name, cells, f"{time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
            if frozen != cells:  # a row says what holds with both norms
                raise SystemExit(f"{name}: norm: group gives {cells}, norm: frozen {frozen}")
            rows[(family, *cells)].append(name)
    print(HEADING)
    for (family, *cells), names in rows.items():
        print(f"| {family} | {', '.join(f'`{name}`' for name in names)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
