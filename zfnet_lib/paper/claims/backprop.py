"""Section 2.1: filtering with transposed filters, and how far a projection is from the gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...architecture import KRIZHEVSKY, ZFNET, Conv, Norm, Unit
from ...deconv import unpool
from ...network import ConvNet, Stage, Trace, contrast_normalise, pooled
from ..sanity import GRADIENT, projections
from .finding import Finding, above, below, every, exact, some, verdict
from .stored import Measured, Stored, measured
from .subject import Subject

SINGLE = 1e-5
"""Largest error that single precision excuses."""


def transposed_flips(stored: Stored) -> Finding:
    """Compare every layer's transposed filters with flipped ones, and test that they are the adjoint."""
    adjoint, flipped = [], []
    for spec in (ZFNET, KRIZHEVSKY):
        net = ConvNet(spec.features())
        for conv in spec.convs:
            errors = _transposition_errors(conv, net.get_submodule(conv.name).weight.detach())
            adjoint.append(errors[0])
            flipped.append(errors[1])
    numbers = {
        "|<Ax, y> - <x, A'y>| / |Ax| |y|": exact(max(adjoint), n=len(adjoint)),
        "A'y less the flipped filters, of the largest value": exact(max(flipped), n=len(flipped)),
    }
    note = "Single precision, weights as before training; all layers of Fig. 3 and of Krizhevsky's network."
    return Finding(verdict(all(number.value < SINGLE for number in numbers.values())), numbers, note)


def backpropagating(at: Subject) -> Iterator[Measured]:
    """Compare projections with the exact gradient, and undo both differences."""
    for layer in at.layers:
        units = at.units(layer)[:: at.scale.units][:20]
        x = at.x([unit.image for unit in units])
        placed = [unit._replace(image=i) for i, unit in enumerate(units)]
        ours, gradient = (projections(at.net, x, placed, way) for way in ("deconvnet", GRADIENT))
        yield measured("cosine", [_cosine(*pair) for pair in zip(ours, gradient, strict=True)], layer=layer)
        errors = _undone_errors(at.net, x, placed)
        yield measured("both undone, difference", errors, "of the norm", np.max, layer=layer)


def similar_to_backpropagation(stored: Stored) -> Finding:
    """Tell whether the projection is near the gradient, and is it once both differences are undone."""
    cosines, left = (stored.numbers.by("layer", name) for name in ("cosine", "both undone, difference"))
    numbers = {f"{layer}, cosine": number for layer, number in cosines.items()}
    largest = {layer: exact(number.value, number.unit, number.n) for layer, number in left.items()}
    numbers |= {f"{layer}, both undone: largest difference": number for layer, number in largest.items()}
    equal = all(number.value < 1e-4 for number in largest.values())
    holds = every([equal, *(above(number, 0) for number in cosines.values())])
    fails = some([not equal, *(below(number, 0) for number in cosines.values())])
    return Finding(verdict(holds, fails is True), numbers, "Layer 1 has neither difference beneath it.")


def _transposition_errors(conv: Conv, weight: Tensor) -> tuple[float, float]:
    """Return a layer's adjointness error, and how far its transpose is from filtering with flipped filters."""
    generator = torch.Generator().manual_seed(0)
    side = conv.kernel + 4 * conv.stride
    x = torch.randn(1, weight.shape[1] * conv.groups, side, side, generator=generator)
    forward = F.conv2d(x, weight, stride=conv.stride, groups=conv.groups)
    y = torch.randn(forward.shape, generator=generator)
    back = F.conv_transpose2d(y, weight, stride=conv.stride, groups=conv.groups)
    sums = [(a.double() * b.double()).sum() for a, b in ((forward, y), (x, back))]
    adjoint = (sums[0] - sums[1]).abs() / (forward.norm() * y.norm())
    flipped = _by_flipped_filters(y, weight, conv)
    return float(adjoint), float((back - flipped).abs().max() / back.abs().max())


def _by_flipped_filters(y: Tensor, weight: Tensor, conv: Conv) -> Tensor:
    """Insert zeros between the positions and filter with the filters flipped and their channels exchanged."""
    rows, columns = ((n - 1) * conv.stride + 1 for n in y.shape[2:])
    spread = y.new_zeros(*y.shape[:2], rows, columns)
    spread[..., :: conv.stride, :: conv.stride] = y
    turned = weight.unflatten(0, (conv.groups, -1)).transpose(1, 2).flatten(0, 1).flip(2, 3)
    return F.conv2d(spread, turned, padding=conv.kernel - 1, groups=conv.groups)


def _undone_errors(net: ConvNet, x: Tensor, units: Sequence[Unit]) -> list[float]:
    """Return, unit by unit, how far a projection with both differences undone is from the gradient, in float64."""
    layer = units[0].layer
    exact_net = _doubled(net, layer)
    x = x.double().requires_grad_()
    trace = exact_net.trace(x)
    maps = trace[layer].maps
    places = tuple(zip(*((i, *unit[2:]) for i, unit in enumerate(units)), strict=True))
    index = tuple(torch.tensor(axis) for axis in places)
    (gradient,) = torch.autograd.grad(maps[index].sum(), x)
    signal = torch.zeros_like(maps)
    signal[index] = 1
    with torch.no_grad():
        undone = _undone(trace, layer, signal)
    return ((undone - gradient).flatten(1).norm(dim=1) / gradient.flatten(1).norm(dim=1)).tolist()


def _doubled(net: ConvNet, layer: str) -> ConvNet:
    """Return the convolutions up to a layer in float64, sharing nothing."""
    part = ConvNet(net.spec.features(layer), net.preparation)
    part.load_state_dict({name: value for name, value in net.state_dict().items() if name in part.state_dict()})
    return part.double().eval()


def _undone(trace: Trace, layer: str, signal: Tensor) -> Tensor:
    """Go down as the deconvnet does, but with the forward pass's mask and through the contrast normalisation."""
    convs = trace.net.spec.convs
    path = list(convs[: convs.index(trace.net.spec.conv(layer)) + 1])
    while path:
        conv = path.pop()
        source = trace[path[-1].name].output if path else trace.x
        signal = _filtered(trace.net, conv, signal * (trace[conv.name].maps > 0), source)
        if path:
            signal = _through_output(path[-1], trace[path[-1].name], signal)
    return signal


def _filtered(net: ConvNet, conv: Conv, signal: Tensor, source: Tensor) -> Tensor:
    """Filter with the transposed weights, to the size of what the layer saw."""
    rows, columns = source.shape[-2:]
    padded = (rows + conv.overhang(rows), columns + conv.overhang(columns))
    weight = net.get_submodule(conv.name).weight
    shape = (*source.shape[:2], *padded)
    back = torch.nn.grad.conv2d_input(shape, weight, signal, conv.stride, conv.padding, groups=conv.groups)
    return back[..., :rows, :columns]


def _through_output(conv: Conv, stage: Stage, signal: Tensor) -> Tensor:
    """Differentiate contrast normalisation and unpool with the recorded switches."""
    norm = conv.norm
    if norm and not norm.before_pool:
        signal = _through_norm(norm, pooled(conv, stage.maps)[0], signal)
    if conv.pool:
        signal = unpool(signal, stage.switches, stage.maps.shape[-2:])
    return _through_norm(norm, stage.maps, signal) if norm and norm.before_pool else signal


def _through_norm(norm: Norm, maps: Tensor, signal: Tensor) -> Tensor:
    def normalised(x: Tensor) -> Tensor:
        return contrast_normalise(x, norm.size, norm.alpha, norm.beta, norm.k)

    return torch.autograd.functional.vjp(normalised, maps.detach(), signal)[1]


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    size = np.linalg.norm(one) * np.linalg.norm(other)
    return float((one * other).sum() / size) if size else float("nan")
