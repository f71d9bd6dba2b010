"""Export of a trained model to one file, which loads where only torch is installed."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.export import Dim

from fairsweep.analysis.records.files import write_whole
from fairsweep.trainables.trained.trained_model import TrainedModel

FACTS = "fairsweep.json"


def export_model(model: TrainedModel, path: str | Path) -> Path:
    """Write a model as a `torch.export` program: uint8 [B, H, W, C] in, logits float32 [B, K] out.

    ``torch.export.load(path).module()`` loads it, without fairsweep. What the model is (label, names of the classes,
    weights, ε) lies in the file as JSON under ``fairsweep.json``.

    Args:
        model: What to export.
        path: The file, ending with .pt2.

    Returns:
        The path.

    Raises:
        ValueError: If the path ends otherwise, or torch cannot trace the network.
    """
    path = Path(path)
    if path.suffix != ".pt2":
        raise ValueError(f"an exported model is a file that ends with .pt2, but got {path.name!r}")
    images = torch.zeros((2, *model.facts.image_shape), dtype=torch.uint8)
    try:
        program = torch.export.export(model.cpu(), (images,), dynamic_shapes=({0: Dim("batch")},), strict=False)
    except Exception as error:  # whatever a network of one's own makes torch raise
        raise ValueError(
            f"torch cannot trace the network of {model.facts.trial} for any number of images "
            f"({type(error).__name__}: {str(error).strip().splitlines()[0]}): make what it computes independent of the "
            "values and the number of images"
        ) from error
    write_whole(path, lambda file: torch.export.save(program, file, extra_files={FACTS: model.facts.to_json()}))
    return path
