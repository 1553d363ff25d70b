"""Section 2.1: what each step of the deconvnet does, and what its projections are worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...architecture import KRIZHEVSKY, ZFNET, Conv, Norm, Unit, receptive_field
from ...deconv import arrivals, cut, places, project, unpool
from ...network import ConvNet, Trace, contrast_normalise, pooled
from ...strongest import fitted
from .. import grouping
from ..sanity import GRADIENT, projections
from .evidence import Finding, Number, Stored, Subject, above, below, every, exact, measured, some, verdict
from .occlusion import BATCH, contributions, evidence_ratios

SWITCHES = {"recorded": {}, "centre": {"switches": "centre"}, "random": {"switches": "random"}}
RECTIFIED = {"relu": {}, "none": {"rectify": "none"}, "mask": {"rectify": "mask"}}


# ---- switches and rectification ------------------------------------------------------------------------------


def unpooling(at: Subject) -> Iterator[Number]:
    """Project the strongest units with recorded, central and random switches; pool and unpool maps likewise."""
    for layer in at.layers[1:]:
        yield from _edges(at, layer, SWITCHES, "switches", "recorded switches gain")
    with torch.no_grad():
        trace = at.net.trace(at.x(at.few[:BATCH]))
    for conv in at.net.spec.convs:
        for way in SWITCHES if conv.pool else ():
            errors = unpooling_errors(trace, conv, way, at.seed)
            yield measured("error of unpooling", errors, "of the norm", layer=conv.name, switches=way)


def switches_preserve(stored: Stored) -> Finding:
    found = stored.numbers
    gains = {way: found.by("layer", "recorded switches gain", over=way) for way in ("centre", "random")}
    numbers = {f"{layer}, over {way}": gain for way, by in gains.items() for layer, gain in by.items()}
    holds = every(above(gain, 0) for gain in numbers.values())
    for way in SWITCHES:
        numbers[f"unpool(pool(conv1)), {way}: error"] = found.one("error of unpooling", layer="conv1", switches=way)
    return Finding(verdict(holds), numbers)


def rectifying(at: Subject) -> Iterator[Number]:
    """Project the strongest units with the paper's rectification, with none, and with the forward pass's mask."""
    for layer in at.layers[1:]:
        yield from _edges(at, layer, RECTIFIED, "rectified", "rectification gains")
        for beneath, shares in negative_energy(at, layer).items():
            yield measured("energy below 0", shares, "%", layer=layer, arrives=beneath)


def rectification_valid(stored: Stored, share: float, needless: float) -> Finding:
    found = stored.numbers
    top = list(found.by("layer", "energy below 0"))[-1]
    negative = found.by("arrives", "energy below 0", layer=top)
    gains = {
        f"{layer}, relu over {way}": gain
        for way in ("none", "mask")
        for layer, gain in found.by("layer", "rectification gains", over=way).items()
    }
    worse = some(below(gain, 0) for gain in gains.values()) is True
    holds = every([*(above(each, share) for each in negative.values()), not worse])
    fails = worse or every(below(each, needless) for each in negative.values()) is True
    numbers = {f"energy below 0 at {layer}, from {top}": each for layer, each in negative.items()} | gains
    return Finding(verdict(holds, fails), numbers, "Tied is read as: not clearly worse.")


def _edges(at: Subject, layer: str, ways: Mapping[str, Mapping], kind: str, gain: str) -> Iterator[Number]:
    """Measure map by map how the edges of projections correlate with those of their patches, by ways to project."""
    units, found = at.units(layer), {way: [] for way in ways}
    for part, trace in traces(at, units):
        signal = lone_signal(trace, part)
        own = grouping.edges(torch.stack([_window(at.net, *pair) for pair in zip(part, trace.x, strict=True)]))
        for way, settings in ways.items():
            shown = project(trace, layer, signal, seed=at.seed, **settings)
            cuts = torch.stack([_window(at.net, *pair) for pair in zip(part, shown, strict=True)])
            found[way] += (grouping.edges(cuts) * own).sum(1).tolist()
    maps = np.array([unit.map for unit in units])
    scores = {
        way: np.array([np.mean(np.array(of)[maps == m]) for m in np.unique(maps)]) for way, of in found.items()
    }
    for way, values in scores.items():
        yield measured("correlation of edges", values, "r", layer=layer, **{kind: way})
    first, *others = ways
    for way in others:
        yield measured(gain, scores[first] - scores[way], "r", layer=layer, over=way)


def _window(net: ConvNet, unit: Unit, image: Tensor) -> Tensor:
    """Cut a unit's field out of an image [3, H, W]; the whole image where the field is larger."""
    box = receptive_field(net.spec, unit.layer).box(unit.row, unit.column)
    return fitted(cut(image, box), box, image.shape[-1])[0]


def unpooling_errors(trace: Trace, conv: Conv, way: str, seed: int) -> list[float]:
    """Return picture by picture how far pooled and unpooled maps are from what they were.

    Each sum is divided by the number of windows that share its place, so that adding neither gains nor loses.
    """
    maps = trace[conv.name].maps
    down = F.max_pool2d(maps, conv.pool.size, conv.pool.stride, 0, 1, conv.pool.ceil)
    switches = places(trace[conv.name], conv.pool, way, torch.Generator().manual_seed(seed))
    back, shared = (unpool(each, switches, maps.shape[-2:], "add") for each in (down, torch.ones_like(down)))
    difference = (back / shared.clamp(min=1) - maps).flatten(1).norm(dim=1)
    return (difference / maps.flatten(1).norm(dim=1)).tolist()


def negative_energy(at: Subject, layer: str) -> dict[str, list[float]]:
    """Return by layer beneath which percentage of the energy that arrives there is below 0, unit by unit."""
    shares: dict[str, list[float]] = {}
    for part, trace in traces(at, at.units(layer)[:: at.scale.units]):
        for beneath, signal in arrivals(trace, layer, lone_signal(trace, part)).items():
            if beneath not in (layer, "pixels"):
                energy = signal.square().flatten(1)
                negative = (energy * (signal.flatten(1) < 0)).sum(1)
                shares.setdefault(beneath, []).extend(100 * each for each in (negative / energy.sum(1)).tolist())
    return shares


def lone_signal(trace: Trace, units: Sequence[Unit]) -> Tensor:
    """Return a layer's maps with one unit of each picture alone: [n, maps, h, w]."""
    maps = trace[units[0].layer].maps
    signal = torch.zeros_like(maps)
    for i, unit in enumerate(units):
        signal[i, unit.map, unit.row, unit.column] = maps[i, unit.map, unit.row, unit.column]
    return signal


def traces(at: Subject, units: Sequence[Unit], upto: str = "") -> Iterator[tuple[Sequence[Unit], Trace]]:
    """Yield units of a layer a batch at a time, with a forward pass in which picture i is that of unit i.

    The pass ends at the units' layer by default.
    """
    for start in range(0, len(units), BATCH):
        part = units[start : start + BATCH]
        with torch.no_grad():
            yield part, at.net.trace(at.x([unit.image for unit in part]), upto=upto or part[0].layer)


# ---- transposed filters and gradients ------------------------------------------------------------------------


def transposed_flips(stored: Stored, single: float) -> Finding:
    errors = []
    for spec in (ZFNET, KRIZHEVSKY):
        net = ConvNet(spec.features())
        errors += [transposition_errors(conv, net.get_submodule(conv.name).weight.detach()) for conv in spec.convs]
    adjoint, flipped = (exact(max(found), n=len(errors)) for found in zip(*errors, strict=True))
    numbers = {
        "|<Ax, y> - <x, A'y>| / |Ax| |y|": adjoint,
        "A'y less the flipped filters, of the largest value": flipped,
    }
    note = "Single precision, weights as before training; all layers of Fig. 3 and of Krizhevsky's network."
    return Finding(verdict(max(adjoint.value, flipped.value) < single), numbers, note)


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
    return float(adjoint), float((back - by_flipped_filters(y, weight, conv)).abs().max() / back.abs().max())


def by_flipped_filters(y: Tensor, weight: Tensor, conv: Conv) -> Tensor:
    """Insert zeros between the positions and filter with the filters flipped and their channels exchanged."""
    rows, columns = ((n - 1) * conv.stride + 1 for n in y.shape[2:])
    spread = y.new_zeros(*y.shape[:2], rows, columns)
    spread[..., :: conv.stride, :: conv.stride] = y
    turned = weight.unflatten(0, (conv.groups, -1)).transpose(1, 2).flatten(0, 1).flip(2, 3)
    return F.conv2d(spread, turned, padding=conv.kernel - 1, groups=conv.groups)


def backpropagating(at: Subject) -> Iterator[Number]:
    """Compare projections with the exact gradient, and undo both differences."""
    for layer in at.layers:
        units, x = at.pictures_of(at.units(layer)[:: at.scale.units][:20])
        ours, gradient = (projections(at.net, x, units, way) for way in ("deconvnet", GRADIENT))
        yield measured("cosine", [_cosine(*pair) for pair in zip(ours, gradient, strict=True)], layer=layer)
        errors = undone_errors(at.net, x, units)
        yield measured("both undone, difference", errors, "of the norm", np.max, layer=layer)


def similar_to_backpropagation(stored: Stored, remainder: float) -> Finding:
    cosines, left = (stored.numbers.by("layer", name) for name in ("cosine", "both undone, difference"))
    largest = {layer: exact(number.value, number.unit, number.n) for layer, number in left.items()}
    equal = all(number.value < remainder for number in largest.values())
    holds = every([equal, *(above(number, 0) for number in cosines.values())])
    fails = some([not equal, *(below(number, 0) for number in cosines.values())])
    numbers = {f"{layer}, cosine": number for layer, number in cosines.items()}
    numbers |= {f"{layer}, both undone: largest difference": number for layer, number in largest.items()}
    return Finding(verdict(holds, fails is True), numbers, "Layer 1 has neither difference beneath it.")


def undone_errors(net: ConvNet, x: Tensor, units: Sequence[Unit]) -> list[float]:
    """Return, unit by unit, how far a projection with both differences undone is from the gradient, in float64."""
    layer = units[0].layer
    double = ConvNet(net.spec.features(layer), net.preparation)
    double.load_state_dict({name: net.state_dict()[name] for name in double.state_dict()})
    x = x.double().requires_grad_()
    trace = double.double().eval().trace(x)
    maps = trace[layer].maps
    index = tuple(torch.tensor([(i, *unit[2:]) for i, unit in enumerate(units)]).T)
    (gradient,) = torch.autograd.grad(maps[index].sum(), x)
    signal = torch.zeros_like(maps)
    signal[index] = 1
    with torch.no_grad():
        difference = undone(trace, layer, signal) - gradient
    return (difference.flatten(1).norm(dim=1) / gradient.flatten(1).norm(dim=1)).tolist()


def undone(trace: Trace, layer: str, signal: Tensor) -> Tensor:
    """Go down as the deconvnet does, but with the forward pass's mask and through the contrast normalisation."""
    convs = trace.net.spec.convs
    path = convs[: convs.index(trace.net.spec.conv(layer)) + 1][::-1]
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


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    size = np.linalg.norm(one) * np.linalg.norm(other)
    return float((one * other).sum() / size) if size else float("nan")


# ---- what projections emphasise ------------------------------------------------------------------------------


def contribution(at: Subject) -> Iterator[Number]:
    """Cover pictures place by place; compare what strong units lose with the projection's energy there."""
    for layer in (at.layers[2], at.layers[-1]):
        rows = contributions(at, layer, at.scale.few)
        projection, control = (np.array([getattr(row, name) for row in rows]) for name in ("projection", "edges"))
        yield measured("correlation with the projection", projection, "rho", np.median, layer=layer)
        yield measured("correlation with the picture's edges", control, "rho", np.median, layer=layer)
        yield measured("projection above edges", projection - control, "rho", np.median, layer=layer)


def weighted_by_contribution(stored: Stored, correlation: float) -> Finding:
    names = ("correlation with the projection", "correlation with the picture's edges", "projection above edges")
    own, control, gain = (stored.numbers.by("layer", name) for name in names)
    leads = [above(number, 0) for number in gain.values()]
    holds = every([*leads, *(above(number, correlation) for number in own.values())])
    numbers = {f"{layer}, projection": number for layer, number in own.items()}
    numbers |= {f"{layer}, picture's edges": number for layer, number in control.items()}
    return Finding(verdict(holds, False in leads), numbers)


def discriminative(at: Subject) -> Iterator[Number]:
    """Compare a projection's energy where the class hangs on with that at places as rich in edges."""
    second, *upper = (at.layers[1], *at.layers[3:])
    control = np.array(evidence_ratios(at, second))
    yield measured("energy on the evidence", control, "times", np.median, layer=second)
    for layer in upper:
        ratios = np.array(evidence_ratios(at, layer))
        yield measured("energy on the evidence", ratios, "times", np.median, layer=layer)
        yield measured("more than layer 2", ratios - control, "times", np.median, layer=layer)


def discriminative_parts(stored: Stored) -> Finding:
    ratios, more = (stored.numbers.by("layer", name) for name in ("energy on the evidence", "more than layer 2"))
    truths = [truth for layer, lead in more.items() for truth in (above(ratios[layer], 1), above(lead, 0))]
    numbers = ratios | {f"{layer}, more than layer 2": lead for layer, lead in more.items()}
    note = "The general form; eyes and noses of dogs need pictures of their own resolution."
    return Finding(verdict(every(truths), False in truths), numbers, note)
