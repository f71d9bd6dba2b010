"""What bounds private and federated steps on a processor: arithmetic, and the rate at which each kernel does it.

    python benchmarks/roofline.py [--cases cnn:28:64 cnn:32:256 resnet18:64:16] [--json FILE]

Of each network, image size and batch: a plain step (forward and backward pass), the same without weight gradients, the
private step (per-example gradients, clipped and summed), and what the private one does instead of the weight gradients,
by kind of kernel. Then the steps of clients with weights of their own, stacked and one after the other, which is what a
federated round consists of. All on one thread, in CPU seconds, in turns; the fastest of each counts, for a busy machine
slows the others. FLOPs are counted, a multiplication and an addition as two.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.utils.flop_counter import FlopCounterMode

from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.trainables.dpsgd.gradient_modes import PerformanceConfig, physical_batch_size
from fairsweep.trainables.federated.grouped_pass import GroupedPass
from fairsweep.trainables.models.model import build_model
from fairsweep.trainables.models.models import MODELS
from fairsweep.trainables.privacy.bookkeeping import Bookkeeping, patches
from fairsweep.trainables.privacy.clipping import Clipping

KEY = seed_key(0, "benchmark")
CLIENTS, CLIENT_BATCH = 16, 10
Work = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=["cnn:28:64", "cnn:28:512", "cnn:32:256", "resnet18:64:16"])
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the ratios to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    square = torch.randn(512, 512)
    peak = 2 * 512**3 / fastest({"product": lambda: square @ square}, arguments.turns)["product"]
    print(f"one product of 512 x 512 matrices: {peak / 1e9:.0f} GFLOP/s")
    found = {}
    for case in arguments.cases:
        name, size, batch = case.split(":")
        found[case] = private_steps(name, int(size), int(batch), arguments.turns)
    found["clients"] = client_steps(arguments.turns)
    client_kernels(arguments.turns)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


def private_steps(name: str, size: int, batch: int, turns: int) -> dict[str, float]:
    """Print where the time of a private step goes, beside a plain one; return the ratios."""
    model = build_model(MODELS[name](), (size, size, 3), 2, KEY)
    inputs, labels = torch.randn(batch, 3, size, size), torch.randint(0, 2, (batch,))
    parameters = list(model.parameters())
    mode, clipping, sums = Bookkeeping(model), Clipping("flat", 1.0), [torch.zeros_like(p) for p in parameters]
    at_once = physical_batch_size(PerformanceConfig(), MODELS[name](), torch.device("cpu"))
    layers, entered, left = layers_met(model, inputs[:at_once])

    def plain() -> None:
        torch.autograd.grad(F.cross_entropy(model(inputs), labels), parameters)

    def without_weights() -> None:
        for start in range(0, batch, at_once):
            part = slice(start, start + at_once)
            edges: list[torch.autograd.graph.GradientEdge] = []
            note = lambda module, given, out: edges.append(torch.autograd.graph.get_gradient_edge(out))  # noqa: B023, E731
            handles = [layer.register_forward_hook(note) for layer in layers]
            loss = F.cross_entropy(model(inputs[part]), labels[part])
            torch.autograd.grad(loss, edges)
            for handle in handles:
                handle.remove()

    def private() -> None:
        for start in range(0, batch, at_once):
            part = slice(start, start + at_once)
            mode.add_clipped(inputs[part], labels[part], clipping, sums)

    convolutions = [index for index, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
    laid_out = [patches(layers[index], entered[index]) for index in convolutions]
    pieces: dict[str, Work] = {
        "weight gradients by convolution": lambda: [
            nn.grad.conv2d_weight(entered[i], layers[i].weight.shape, left[i], layers[i].stride, layers[i].padding)
            for i in convolutions
        ],
        "patches": lambda: [patches(layers[index], entered[index]) for index in convolutions],
        "products by example": lambda: [
            torch.bmm(left[index].flatten(2), laid) for index, laid in zip(convolutions, laid_out, strict=True)
        ],
    }
    seconds = fastest({"plain": plain, "without weights": without_weights, "private": private, **pieces}, turns)
    parts = max(1, batch / at_once)
    flops = FlopCounterMode(display=False)
    with flops:
        plain()
    products = sum(2 * left[i].numel() * layers[i].weight[0].numel() for i in convolutions)
    ratio, bound = (
        seconds["plain"] / seconds["private"],
        sum((seconds["without weights"], parts * seconds["patches"], parts * seconds["products by example"])),
    )
    print(f"\n{name} at {size} x {size}, batch {batch}, {at_once} at once: plain / private {ratio:.2f}")
    rate = flops.get_total_flops() / seconds["plain"] / 1e9
    print(f"  plain step        {seconds['plain'] * 1e3:8.2f} ms  {rate:4.0f} GFLOP/s")
    print(f"  private step      {seconds['private'] * 1e3:8.2f} ms")
    print(f"  without weights   {seconds['without weights'] * 1e3:8.2f} ms")
    for piece in pieces:
        done = "" if piece == "patches" else f"  {products / seconds[piece] / 1e9:4.0f} GFLOP/s"
        print(f"  {piece:32} {parts * seconds[piece] * 1e3:8.2f} ms{done}")
    print(f"  plain / (without weights + patches + products by example): {seconds['plain'] / bound:.2f}")
    return {"plain / private": ratio, "plain / bound": seconds["plain"] / bound}


def layers_met(
    model: nn.Module, inputs: torch.Tensor
) -> tuple[list[nn.Module], list[torch.Tensor], list[torch.Tensor]]:
    """Return the layers with weights, what enters each, and something of the shape of what leaves it."""
    layers: list[nn.Module] = []
    entered: list[torch.Tensor] = []
    left: list[torch.Tensor] = []

    def note(module: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        layers.append(module), entered.append(given[0].detach()), left.append(torch.randn_like(out))

    handles = [m.register_forward_hook(note) for m in model.modules() if list(m.parameters(recurse=False))]
    with torch.no_grad():
        model(inputs)
    for handle in handles:
        handle.remove()
    return layers, entered, left


def client_steps(turns: int) -> dict[str, float]:
    """Print what one step of clients costs: plain PyTorch client by client, and stacked; return the ratios."""
    model = build_model(MODELS["cnn"](), (28, 28, 1), 10, KEY)
    inputs, labels = torch.randn(CLIENTS, CLIENT_BATCH, 1, 28, 28), torch.randint(0, 10, (CLIENTS, CLIENT_BATCH))
    weights = {name: p.detach() for name, p in model.named_parameters()}
    stacked = {name: value.expand(CLIENTS, *value.shape).contiguous() for name, value in weights.items()}
    parameters = list(model.parameters())

    def loss(own: dict[str, torch.Tensor], images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(functional_call(model, own, (images,)), classes)

    step = vmap(grad(loss))
    by_group = GroupedPass.of(model)

    def grouped() -> None:
        leaves = [value.requires_grad_() for value in map(torch.Tensor.detach, stacked.values())]
        logits = by_group(leaves, inputs).flatten(0, 1)
        torch.autograd.grad(F.cross_entropy(logits, labels.flatten(), reduction="sum") / CLIENT_BATCH, leaves)

    def one_by_one() -> None:
        for images, classes in zip(inputs, labels, strict=True):
            torch.autograd.grad(F.cross_entropy(model(images), classes), parameters)

    def together() -> None:
        torch.autograd.grad(F.cross_entropy(model(inputs.flatten(0, 1)), labels.flatten()), parameters)

    work: dict[str, Work] = {
        "client by client": one_by_one,
        "stacked": grouped,
        "by vmap": lambda: step(stacked, inputs, labels),
        "one model on all images": together,
    }
    seconds = fastest(work, turns)
    flops = FlopCounterMode(display=False)
    with flops:
        together()
    print(f"\na step of {CLIENTS} clients with {CLIENT_BATCH} images each, cnn at 28 x 28")
    for name, value in seconds.items():
        print(f"  {name:24} {value * 1e3:8.2f} ms  {flops.get_total_flops() / value / 1e9:4.0f} GFLOP/s")
    ratios = {f"client by client / {name}": seconds["client by client"] / seconds[name] for name in list(work)[1:]}
    for name, value in ratios.items():
        print(f"  {name}: {value:.2f}")
    return ratios


def client_kernels(turns: int) -> None:
    """Print what each convolution of such a step costs: by group, client by client, and as products with patches."""
    model = build_model(MODELS["cnn"](), (28, 28, 1), 10, KEY)
    for layer, images, out in zip(*layers_met(model, torch.randn(CLIENTS * CLIENT_BATCH, 1, 28, 28)), strict=True):
        if not isinstance(layer, nn.Conv2d):
            continue
        flops, laid = 2 * out.numel() * layer.weight[0].numel(), patches(layer, images)
        print(f"  {layer}: {flops / 1e6:.0f} MFLOP each way, {4 * images.numel() / 1e6:.1f} MB of images, ", end="")
        print(f"{4 * laid.numel() / 1e6:.1f} MB of patches")
        for name, value in fastest(convolution_work(layer, images, out), turns).items():
            rate = "" if name == "laying out patches" else f"{flops / value / 1e9:5.0f} GFLOP/s"
            print(f"    {name:40} {value * 1e3:7.2f} ms {rate}")


def convolution_work(layer: nn.Conv2d, images: torch.Tensor, out: torch.Tensor) -> dict[str, Work]:
    """Return the ways to take a convolution of clients with kernels of their own, forward and back."""
    shape = (CLIENTS, CLIENT_BATCH)
    kernels = torch.randn(CLIENTS, *layer.weight.shape)
    own = images.unflatten(0, shape), kernels, out.unflatten(0, shape)
    given, grads = (tensor.transpose(0, 1).flatten(1, 2).contiguous() for tensor in (own[0], own[2]))
    laid = patches(layer, images).unflatten(0, shape).flatten(1, 2)
    columns = kernels.permute(0, 3, 4, 2, 1).flatten(1, 3).contiguous()
    rows = own[2].flatten(3).transpose(2, 3).flatten(1, 2).contiguous()

    def forward(given: torch.Tensor, kernels: torch.Tensor, groups: int) -> torch.Tensor:
        return F.conv2d(given, kernels, None, layer.stride, layer.padding, layer.dilation, groups)

    def back(given: torch.Tensor, kernels: torch.Tensor, grads: torch.Tensor, groups: int, mask: list[bool]) -> object:
        geometry = layer.stride, layer.padding, layer.dilation, False, (0, 0), groups, mask
        return torch.ops.aten.convolution_backward(grads, given, kernels, None, *geometry)

    images_too, weights_too = [True, False, False], [False, True, False]
    flat = kernels.flatten(0, 1)
    return {
        "forward, by group": lambda: forward(given, flat, CLIENTS),
        "forward, client by client": lambda: [forward(x, w, 1) for x, w, _ in zip(*own, strict=True)],
        "forward, products": lambda: torch.bmm(laid, columns),
        "back to images, by group": lambda: back(given, flat, grads, CLIENTS, images_too),
        "back to images, client by client": lambda: [back(*one, 1, images_too) for one in zip(*own, strict=True)],
        "back to patches, products": lambda: torch.bmm(rows, columns.transpose(1, 2)),
        "back to weights, by group": lambda: back(given, flat, grads, CLIENTS, weights_too),
        "back to weights, client by client": lambda: [back(*one, 1, weights_too) for one in zip(*own, strict=True)],
        "back to weights, products": lambda: torch.bmm(laid.transpose(1, 2), rows),
        "laying out patches": lambda: patches(layer, images),
    }


def fastest(work: dict[str, Work], turns: int) -> dict[str, float]:
    """Return the CPU seconds of each piece of work: the least of so many turns, after two that warm up."""
    seconds = dict.fromkeys(work, float("inf"))
    for turn in range(turns + 2):
        for name, do in work.items():
            began = time.process_time()
            do()
            taken = time.process_time() - began
            if turn > 1:
                seconds[name] = min(seconds[name], taken)
    return seconds


if __name__ == "__main__":
    main()
