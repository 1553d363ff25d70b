"""What all benchmarks share: the network as a careful reader of the paper writes it, and fair comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from ..files import ZfnetError
from ..network import ConvNet
from ..paper.records import Record, Stopwatch


def compare(
    record: Callable[..., Record],
    name: str,
    peer: Callable[[], object],
    ours: Callable[[], object],
    rounds: int,
    more: float = 1.0,
) -> Record:
    """Alternate both after one warm-up each; the peer's time over ours, of which `more` times the work is asked."""
    seconds(peer), seconds(ours)
    ratios = [more * seconds(peer) / seconds(ours) for _ in range(rounds)]
    spread = max(ratios) - min(ratios)
    return record(value=median(ratios), unit=f"times as fast as {name}", n=rounds, spread=spread)


def recorded(
    watch: Stopwatch, experiment: str, quantity: str, device: str = "cpu", **told
) -> Callable[..., Record]:
    """Return what makes a benchmark's records of value, unit and more; their seconds count until each is made."""

    def record(value: float, unit: str, **more) -> Record:
        return Record(experiment, quantity, value, unit, watch.provenance(device=device), **(told | more))

    return record


def fastest(run: Callable[[Any], object], choices: Iterable) -> Any:
    """Return the choice, such as a batch size, with which a peer is fastest."""
    return min(choices, key=lambda choice: seconds(partial(run, choice)))


def seconds(run: Callable[[], object]) -> float:
    """Return how long a call takes, the GPU's work included."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    if torch.backends.mps.is_available():
        wait = torch.mps.synchronize
    wait()
    start = perf_counter()
    run()
    wait()
    return perf_counter() - start


def require_close(expected: Tensor, found: Tensor, tolerance: float, what: str) -> None:
    """Refuse to time results that differ by more than a share of the largest value."""
    error = ((expected - found).abs().max() / expected.abs().max()).item()
    if error > tolerance:
        raise ZfnetError(f"{what}: the results differ by {error:.1e} of the largest; nothing was timed")


def captum_method(name: str) -> type:
    """Return one of captum's methods."""
    try:
        import captum.attr
    except ImportError:
        raise ZfnetError("captum is not installed; bring it with: pip install captum") from None
    return getattr(captum.attr, name)


def plain_layers(net: ConvNet, side: int) -> dict[str, nn.Sequential]:
    """Return torch's own modules, in NCHW, from one layer's rectified maps to the next one's; last `output`.

    They share the network's weights; its normalisation, if any, follows the pools.
    """
    shapes, layers, between = net.spec.shapes(side, side), {}, []
    for conv in net.spec.convs:
        overhang = conv.overhang(side)
        pad = [nn.ZeroPad2d((0, overhang, 0, overhang))] if overhang else []
        layers[conv.name] = nn.Sequential(*between, *pad, net.get_submodule(conv.name), nn.ReLU())
        between = [nn.MaxPool2d(3, 2, ceil_mode=True)] if conv.pool else []
        between += [nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)] if conv.norm else []
        side = shapes[conv.pool_name if conv.pool else conv.name][1]
    return layers | {"output": nn.Sequential(*between)}


def plain_head(net: ConvNet, dropout: bool = False) -> list[nn.Module]:
    """Return torch's own modules from the last output to logits."""
    layers = [nn.Flatten()]
    for dense in net.spec.dense:
        layers += [net.get_submodule(dense.name), nn.ReLU()] + [nn.Dropout(dense.dropout)] * dropout
    return [*layers, net.fc8]


@torch.no_grad()
def with_random_weights(net: ConvNet) -> ConvNet:
    """Give a network weights, drawn by seed, with which activations neither fade nor grow, and moderate logits."""
    generator = torch.Generator().manual_seed(0)
    for layer, fan_in in net.spec.fan_in().items():
        net.get_submodule(layer).weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
    if net.spec.classes:
        net.fc8.weight /= 16
    return net.eval()
