"""Networks that are written elsewhere, with initial weights of their own: those of torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from fairsweep.trainables.layers.forked_generator import forked_generator
from fairsweep.trainables.layers.head import head_name, replace_head
from fairsweep.trainables.layers.norm_layers import replace_norms
from fairsweep.trainables.layers.published_weights import published_weights
from fairsweep.trainables.models.model import ModelError, NormedModel, finish, initialise


class ForeignModel(NormedModel):
    """A network that is written elsewhere.

    Attributes:
        norm: What takes the place of each BatchNorm layer. ``group``: GroupNorm, whose number of groups is the largest
            divisor of the number of channels that is at most 16 and leaves at least 4 channels in a group.
            ``frozen``: BatchNorm whose statistics and affine weights, those of ``weights``, are constants. ``none``:
            nothing. ``batch``: BatchNorm stays, for non-private learners only.
        weights: Path of a local file with a ``state_dict``. The head is loaded only where its shape fits; running
            statistics only where the network has BatchNorm layers or frozen ones. A private learner treats these
            weights as public.
    """

    is_foreign: ClassVar[bool] = True

    weights: Path | None = None

    @property
    def has_statistics(self) -> bool:
        """Whether published weights are given."""
        return self.weights is not None

    def layers(self, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return the network with its norms and head."""
        network = self.network(image_shape, classes)
        replace_norms(network, self.norm)
        if self.head is not None:
            replace_head(network, self.head, classes)
        return network

    def build(self, image_shape: tuple[int, int, int], classes: int, key: bytes) -> nn.Module:
        """Return the network on the CPU, its weights as their author draws them, from a generator that is forked."""
        with forked_generator(key, self.name):
            network = self.layers(image_shape, classes)
        if self.head is not None:
            initialise(network.get_submodule(head_name(network, self.head)), key)
        return finish(self, network)[0]

    def given_weights(self, network: nn.Module) -> dict[str, torch.Tensor]:
        """Return published weights, all but a head of another shape."""
        if self.weights is None:
            return {}
        head = head_name(network, self.head)
        return published_weights(network, self.weights, "model", self.name, head, ("aux", "Aux"))


class TorchvisionModel(ForeignModel):
    """Any classification network of torchvision, by its name, with a head for the number of classes.

    Attributes:
        name: As ``torchvision.models.list_models`` has it.
    """

    name: str

    def network(self, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return torchvision's network, on images with any number of channels.

        Auxiliary heads are left out: they would be trained, and never predict.
        """
        from torchvision.models import get_model

        options = self._options(image_shape)
        try:
            network: nn.Module = get_model(self.name, weights=None, num_classes=classes, **options)
        except ValueError as error:
            raise ModelError(
                f"{self.name} cannot take images of {image_shape[0]} x {image_shape[1]}: {self.failure(error)}"
            ) from error
        if image_shape[2] != 3:
            _take_channels(network, image_shape[2])
        return network

    def _options(self, image_shape: tuple[int, int, int]) -> dict[str, Any]:
        height, width, _ = image_shape
        if self.name.startswith("vit_"):
            patch = int(self.name.rpartition("_")[2])
            if height != width or height % patch:
                raise ModelError(
                    f"{self.name} needs square images whose side is a multiple of {patch}, but got {height} x {width}: "
                    f"choose another network, or prepare the images with --size {max(1, round(height / patch)) * patch}"
                )
            return {"image_size": height}
        if self.name.startswith("maxvit_"):
            return {"input_size": (height, width)}
        if self.name in ("googlenet", "inception_v3"):
            return {"aux_logits": False, "init_weights": True}
        return {}


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classification networks."""
    from torchvision import models

    return list(models.list_models(module=models))


def _take_channels(network: nn.Module, channels: int) -> None:
    """Put a first convolution for another number of channels in the place of a network's own."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == 3:
            layer = nn.Conv2d(
                channels,
                module.out_channels,
                module.kernel_size,  # type: ignore[arg-type]
                module.stride,  # type: ignore[arg-type]
                module.padding,  # type: ignore[arg-type]
                bias=module.bias is not None,
            )
            network.set_submodule(name, layer)
            return
