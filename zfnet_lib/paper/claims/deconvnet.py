"""Section 2.1: what each step of the deconvnet does, and what its projections are worth.

What `claims.toml` names is explained there, as in all modules of this folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...architecture import KRIZHEVSKY, ZFNET, Box, Conv, Norm, Unit, receptive_field
from ...deconv import alone, chosen_switches, cut, descend, project, unpool
from ...network import ConvNet, Trace, contrast_normalise, pooled
from ...strongest import fitted
from .. import grouping
from ..sanity import GRADIENT, projections, rivals
from .evidence import Finding, Number, Stored, Subject, exact, measured, verdict
from .occlusion import BATCH, evidence_ratios

SWITCHES = {"recorded": {}, "centre": {"switches": "centre"}, "random": {"switches": "random"}}
RECTIFIED = {"relu": {}, "none": {"rectify": "none"}, "mask": {"rectify": "mask"}}


def unpooling(at: Subject) -> Iterator[Number]:
    for layer in at.layers[1:]:
        yield from _correlations(at, layer, SWITCHES, "switches", "recorded switches gain")
    trace = at.net.trace(at.x(at.few[:BATCH]))
    for conv in at.net.spec.convs:
        for way in SWITCHES if conv.pool else ():
            errors = unpooling_errors(trace, conv, way, at.seed)
            yield measured("error of unpooling", errors, "of the norm", layer=conv.name, switches=way)


def unpooling_errors(trace: Trace, conv: Conv, way: str, seed: int) -> list[float]:
    """Return picture by picture how far pooled and unpooled maps, over the windows that share a place, are off."""
    maps = trace[conv.name].maps
    down = F.max_pool2d(maps, conv.pool.size, conv.pool.stride, 0, 1, conv.pool.ceil)
    switches = chosen_switches(trace[conv.name], conv.pool, way, torch.Generator().manual_seed(seed))
    back, shared = (unpool(each, switches, maps.shape[-2:], "add") for each in (down, torch.ones_like(down)))
    difference = (back / shared.clamp(min=1) - maps).flatten(1).norm(dim=1)
    return (difference / maps.flatten(1).norm(dim=1)).tolist()


def rectifying(at: Subject) -> Iterator[Number]:
    for layer in at.layers[1:]:
        yield from _correlations(at, layer, RECTIFIED, "rectified", "rectification gains")
        shares: dict[str, list[float]] = {}
        for _, trace, signal in traces(at, at.units(layer, 1)):
            for beneath, arrived in descend(trace, layer, signal, arriving=True).items():
                energy = arrived.square().flatten(1)
                negative = (energy * (arrived.flatten(1) < 0)).sum(1)
                shares.setdefault(beneath, []).extend(100 * each for each in (negative / energy.sum(1)).tolist())
        for beneath in [*shares][1:-1]:  # neither at the layer itself nor at the pixels
            yield measured("energy below 0", shares[beneath], "%", layer=layer, arrives=beneath)


def _correlations(at: Subject, layer: str, ways: Mapping[str, Mapping], kind: str, gain: str) -> Iterator[Number]:
    """Measure map by map how the edges of projections correlate with those of their patches, by ways to project."""
    field, found = receptive_field(at.net.spec, layer), {way: [] for way in ways}
    for units, trace, signal in traces(at, at.units(layer)):
        boxes = [field.box(unit.row, unit.column) for unit in units]
        own = _edges(trace.x, boxes)
        for way, settings in ways.items():
            shown = project(trace, layer, signal, seed=at.seed, **settings)
            found[way] += (_edges(shown, boxes) * own).sum(1).tolist()
    scores = {way: np.array(values).reshape(-1, at.scale.units).mean(1) for way, values in found.items()}
    for way, values in scores.items():
        yield measured("correlation of edges", values, "r", layer=layer, **{kind: way})
    first, *others = ways
    for way in others:
        yield measured(gain, scores[first] - scores[way], "r", layer=layer, over=way)


def _edges(images: Tensor, boxes: Sequence[Box]) -> Tensor:
    """Return the edges within a box of each image, in the whole image where the box is larger."""
    pairs = zip(images, boxes, strict=True)
    return grouping.edges(torch.stack([fitted(cut(image, box), box, image.shape[-1])[0] for image, box in pairs]))


def traces(at: Subject, units: Sequence[Unit], upto: str = "") -> Iterator[tuple[Sequence[Unit], Trace, Tensor]]:
    """Yield units of a layer in batches, a forward pass of the picture of each, and each alone on its maps."""
    for start in range(0, len(units), BATCH):
        part = units[start : start + BATCH]
        trace = at.net.trace(at.x([unit.image for unit in part]), upto=upto or part[0].layer)
        maps = trace[part[0].layer].maps
        yield part, trace, torch.cat([alone(maps[[i]], unit.place) for i, unit in enumerate(part)])


def transposed_flips(stored: Stored, single: float) -> Finding:
    errors = []
    for spec in (ZFNET, KRIZHEVSKY):
        net = ConvNet(spec.features())
        errors += [transposition_errors(conv, net.get_submodule(conv.name).weight.detach()) for conv in spec.convs]
    names = ("|<Ax, y> - <x, A'y>| / |Ax| |y|", "A'y less the flipped filters, of the largest value")
    numbers = {name: exact(max(each), n=len(each)) for name, *each in zip(names, *errors, strict=True)}
    return Finding(verdict(all(number.value < single for number in numbers.values())), numbers)


def transposition_errors(conv: Conv, weight: Tensor) -> tuple[float, float]:
    """Return a layer's adjointness error, and how far its transpose is from filtering with flipped filters."""
    generator = torch.Generator().manual_seed(0)
    side = conv.kernel + 4 * conv.stride
    x = torch.randn(1, weight.shape[1] * conv.groups, side, side, generator=generator)
    forward = F.conv2d(x, weight, stride=conv.stride, groups=conv.groups)
    y = torch.randn(forward.shape, generator=generator)
    back = F.conv_transpose2d(y, weight, stride=conv.stride, groups=conv.groups)
    sums = [(a.double() * b.double()).sum() for a, b in ((forward, y), (x, back))]
    adjoint = (sums[0] - sums[1]).abs() / (forward.norm() * y.norm())
    # Zeros between the positions, and the filters flipped, their channels exchanged.
    spread = y.new_zeros(*y.shape[:2], *((n - 1) * conv.stride + 1 for n in y.shape[2:]))
    spread[..., :: conv.stride, :: conv.stride] = y
    turned = weight.unflatten(0, (conv.groups, -1)).transpose(1, 2).flatten(0, 1).flip(2, 3)
    filtered = F.conv2d(spread, turned, padding=conv.kernel - 1, groups=conv.groups)
    return float(adjoint), float((back - filtered).abs().max() / back.abs().max())


def backpropagating(at: Subject) -> Iterator[Number]:
    for layer in at.layers:
        units, x = at.pictures_of(at.units(layer, 1)[:20])
        ours, gradient = (projections(at.net, x, units, way) for way in ("deconvnet", GRADIENT))
        own = _cosines(ours, gradient)
        others = _cosines(ours, projections(at.net, x, rivals(at.net.trace(x, upto=layer), units), GRADIENT))
        yield measured("cosine", own, layer=layer)
        yield measured("cosine, less that with another unit's gradient", own - others, layer=layer)
        errors = undone_errors(at.net, x, units)
        yield measured("both undone, difference", errors, "of the norm", np.max, layer=layer)


def _cosines(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> np.ndarray:
    sizes = [np.linalg.norm(one) * np.linalg.norm(other) for one, other in zip(some, others, strict=True)]
    pairs = zip(some, others, sizes, strict=True)
    return np.array([(one * other).sum() / size if size else np.nan for one, other, size in pairs])


def undone_errors(net: ConvNet, x: Tensor, units: Sequence[Unit]) -> list[float]:
    """Return, unit by unit, how far a projection with both differences undone is from the gradient, in float64."""
    layer = units[0].layer
    double = ConvNet(net.spec.features(layer), net.preparation)
    double.load_state_dict({name: net.state_dict()[name] for name in double.state_dict()})
    x = x.double().requires_grad_()
    trace = double.double().eval().trace(x)
    maps = trace[layer].maps
    index = tuple(torch.tensor([(i, *unit.place) for i, unit in enumerate(units)]).T)
    (gradient,) = torch.autograd.grad(maps[index].sum(), x)
    signal = torch.zeros_like(maps)
    signal[index] = 1
    with torch.no_grad():
        difference = undone(trace, layer, signal) - gradient
    return (difference.flatten(1).norm(dim=1) / gradient.flatten(1).norm(dim=1)).tolist()


def undone(trace: Trace, layer: str, signal: Tensor) -> Tensor:
    """Go down as the deconvnet does, but with the forward pass's mask and through the contrast normalisation."""
    path = trace.net.spec.features(layer).convs[::-1]
    for conv, beneath in zip(path, [*path[1:], None], strict=True):
        source = trace[beneath.name].output if beneath else trace.x
        rows, columns = source.shape[-2:]
        padded = (*source.shape[:2], rows + conv.overhang(rows), columns + conv.overhang(columns))
        weight, masked = trace.net.get_submodule(conv.name).weight, signal * (trace[conv.name].maps > 0)
        back = torch.nn.grad.conv2d_input(padded, weight, masked, conv.stride, conv.padding, groups=conv.groups)
        signal = back[..., :rows, :columns]
        if beneath:
            stage, norm = trace[beneath.name], beneath.norm
            if norm and not norm.before_pool:
                signal = _through_norm(norm, pooled(beneath, stage.maps)[0], signal)
            if beneath.pool:
                signal = unpool(signal, stage.switches, stage.maps.shape[-2:])
            if norm and norm.before_pool:
                signal = _through_norm(norm, stage.maps, signal)
    return signal


def _through_norm(norm: Norm, maps: Tensor, signal: Tensor) -> Tensor:
    normalised = partial(contrast_normalise, size=norm.size, alpha=norm.alpha, beta=norm.beta, k=norm.k)
    return torch.autograd.functional.vjp(normalised, maps.detach(), signal)[1]


def discriminative(at: Subject) -> Iterator[Number]:
    second, *upper = (at.layers[1], *at.layers[3:])
    ratios = {layer: evidence_ratios(at, layer) for layer in (second, *upper)}
    for layer, (own, another) in ratios.items():
        yield measured("energy on the evidence", own, "times", np.median, layer=layer)
        yield measured("energy on another picture's evidence", another, "times", np.median, layer=layer)
        if layer != second:
            below, _ = ratios[second]
            yield measured("more than layer 2", own - below, "times", np.median, layer=layer)
            yield measured("more than on another picture's", own - another, "times", np.median, layer=layer)
