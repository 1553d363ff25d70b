"""Section 2.1: what the steps of the deconvnet do to its projections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...architecture import Conv, Unit, receptive_field
from ...deconv import arrivals, cut, places, project, unpool
from ...network import ConvNet, Trace
from ...strongest import fitted
from .. import grouping
from .finding import Finding, above, below, every, some, verdict
from .hiding import contributions, evidence_ratios
from .stored import Measured, Stored, measured
from .subject import Subject

BATCH = 16
SWITCHES = {"recorded": {}, "centre": {"switches": "centre"}, "random": {"switches": "random"}}
RECTIFIED = {"relu": {}, "none": {"rectify": "none"}, "mask": {"rectify": "mask"}}


def unpooling(at: Subject) -> Iterator[Measured]:
    """Project the strongest units with recorded, central and random switches; pool and unpool maps likewise."""
    for layer in at.layers[1:]:
        scores = _edge_correlations(at, layer, SWITCHES)
        for way, values in scores.items():
            yield measured("correlation of edges", values, "r", layer=layer, switches=way)
        for way in ("centre", "random"):
            yield measured("recorded switches gain", scores["recorded"] - scores[way], "r", layer=layer, over=way)
    for layer, way, errors in _unpooled(at):
        yield measured("error of unpooling", errors, "of the norm", layer=layer, switches=way)


def switches_preserve(stored: Stored) -> Finding:
    """Tell whether recorded switches follow the picture's edges better than other places."""
    found = stored.numbers
    gains = {way: found.by("layer", "recorded switches gain", over=way) for way in ("centre", "random")}
    numbers = {f"{layer}, over {way}": gain for way, by in gains.items() for layer, gain in by.items()}
    for way in SWITCHES:
        numbers[f"unpool(pool(conv1)), {way}: error"] = found.one("error of unpooling", layer="conv1", switches=way)
    truths = [above(gain, 0) for by in gains.values() for gain in by.values()]
    return Finding(verdict(every(truths)), numbers)


def rectifying(at: Subject) -> Iterator[Measured]:
    """Project the strongest units with the paper's rectification, with none, and with the forward pass's mask."""
    for layer in at.layers[1:]:
        scores = _edge_correlations(at, layer, RECTIFIED)
        for way, values in scores.items():
            yield measured("correlation of edges", values, "r", layer=layer, rectified=way)
        for way in ("none", "mask"):
            yield measured("rectification gains", scores["relu"] - scores[way], "r", layer=layer, over=way)
        for place, shares in _negative(at, layer).items():
            yield measured("energy below 0", 100 * shares, "%", layer=layer, arrives=place)


def rectification_valid(stored: Stored) -> Finding:
    """Tell whether signals hold negative energy on their way down, and whether rectifying them helps."""
    found = stored.numbers
    top = list(found.by("layer", "energy below 0"))[-1]
    negative = found.by("arrives", "energy below 0", layer=top)
    gains = {
        f"{layer}, relu over {way}": gain
        for way in ("none", "mask")
        for layer, gain in found.by("layer", "rectification gains", over=way).items()
    }
    numbers = {f"energy below 0 at {layer}, from {top}": share for layer, share in negative.items()} | gains
    worse = some(below(gain, 0) for gain in gains.values()) is True
    holds = every([*(above(share, 10) for share in negative.values()), not worse])
    needless = every(below(share, 1) for share in negative.values()) is True
    return Finding(verdict(holds, worse or needless), numbers, "Tied is read as: not clearly worse.")


def contribution(at: Subject) -> Iterator[Measured]:
    """Cover pictures place by place; compare what strong units lose with the projection's energy there."""
    for layer in (at.layers[2], at.layers[-1]):
        rows = list(contributions(at, layer, at.scale.few))
        projection, control = (np.array([getattr(row, name) for row in rows]) for name in ("projection", "edges"))
        yield measured("correlation with the projection", projection, "rho", np.median, layer=layer)
        yield measured("correlation with the picture's edges", control, "rho", np.median, layer=layer)
        yield measured("projection above edges", projection - control, "rho", np.median, layer=layer)


def weighted_by_contribution(stored: Stored) -> Finding:
    """Tell whether units lose most where their projection has energy."""
    names = (
        "correlation with the projection",
        "correlation with the picture's edges",
        "projection above edges",
    )
    own, control, gain = (stored.numbers.by("layer", name) for name in names)
    numbers = {f"{layer}, projection": number for layer, number in own.items()}
    numbers |= {f"{layer}, picture's edges": number for layer, number in control.items()}
    leads = [above(number, 0) for number in gain.values()]
    strong = [above(number, 0.5) for number in own.values()]
    return Finding(verdict(every(strong + leads), False in leads), numbers)


def discriminative(at: Subject) -> Iterator[Measured]:
    """Compare a projection's energy where the class hangs on with that at places as rich in edges."""
    second, *upper = (at.layers[1], *at.layers[3:])
    control = np.array(evidence_ratios(at, second))
    yield measured("energy on the evidence", control, "times", np.median, layer=second)
    for layer in upper:
        ratios = np.array(evidence_ratios(at, layer))
        yield measured("energy on the evidence", ratios, "times", np.median, layer=layer)
        yield measured("more than layer 2", ratios - control, "times", np.median, layer=layer)


def discriminative_parts(stored: Stored) -> Finding:
    """Tell whether upper layers show what matters for the class more than what has edges."""
    ratios, more = (stored.numbers.by("layer", name) for name in ("energy on the evidence", "more than layer 2"))
    truths = [truth for layer, lead in more.items() for truth in (above(ratios[layer], 1), above(lead, 0))]
    numbers = ratios | {f"{layer}, more than layer 2": lead for layer, lead in more.items()}
    note = "The general form; eyes and noses of dogs need pictures of their own resolution."
    return Finding(verdict(every(truths), False in truths), numbers, note)


def window_of(net: ConvNet, unit: Unit, image: Tensor) -> Tensor:
    """Cut a unit's field out of an image [3, H, W]; the whole image where the field is larger."""
    box = receptive_field(net.spec, unit.layer).box(unit.row, unit.column)
    return fitted(cut(image, box), box, image.shape[-1])[0]


def lone_signal(trace: Trace, units: Sequence[Unit]) -> Tensor:
    """Return a layer's maps with one unit of each picture alone: [n, maps, h, w]."""
    maps = trace[units[0].layer].maps
    signal = torch.zeros_like(maps)
    for place, unit in enumerate(units):
        where = place, unit.map, unit.row, unit.column
        signal[where] = maps[where]
    return signal


def traces(at: Subject, units: Sequence[Unit], upto: str = "") -> Iterator[tuple[Sequence[Unit], Trace]]:
    """Yield units of a layer a batch at a time, with a forward pass in which picture i is that of unit i.

    Args:
        at: Network and pictures.
        units: `image` counts in the data set.
        upto: Where the pass ends; at the units' layer by default.
    """
    for start in range(0, len(units), BATCH):
        part = units[start : start + BATCH]
        with torch.no_grad():
            yield part, at.net.trace(at.x([unit.image for unit in part]), upto=upto or part[0].layer)


def _edge_correlations(at: Subject, layer: str, ways: Mapping[str, Mapping]) -> dict[str, np.ndarray]:
    """Return by way the mean correlation of each map's projections' edges with those of their patches."""
    units, scores = at.units(layer), {way: [] for way in ways}
    for part, trace in traces(at, units):
        signal = lone_signal(trace, part)
        patches = torch.stack([window_of(at.net, *pair) for pair in zip(part, trace.x, strict=True)])
        own = grouping.edges(patches)
        for way, settings in ways.items():
            shown = project(trace, layer, signal, seed=at.seed, **settings)
            cuts = torch.stack([window_of(at.net, *pair) for pair in zip(part, shown, strict=True)])
            scores[way] += (grouping.edges(cuts) * own).sum(1).tolist()
    maps = np.array([unit.map for unit in units])
    return {way: np.array([np.mean(np.array(s)[maps == m]) for m in np.unique(maps)]) for way, s in scores.items()}


def _unpooled(at: Subject) -> Iterator[tuple[str, str, list[float]]]:
    """Yield layer, switches and, picture by picture, how far pooled and unpooled maps are from what they were."""
    with torch.no_grad():
        trace = at.net.trace(at.x(at.few[:BATCH]))
    for conv in at.net.spec.convs:
        if conv.pool:
            for way in SWITCHES:
                yield conv.name, way, _unpooling_errors(trace, conv, way, at.seed)


def _unpooling_errors(trace: Trace, conv: Conv, way: str, seed: int) -> list[float]:
    maps = trace[conv.name].maps
    pooled = F.max_pool2d(maps, conv.pool.size, conv.pool.stride, 0, 1, conv.pool.ceil)
    switches = places(trace[conv.name], conv.pool, way, torch.Generator().manual_seed(seed))
    back, shared = (unpool(each, switches, maps.shape[-2:], "add") for each in (pooled, torch.ones_like(pooled)))
    difference = (back / shared.clamp(min=1) - maps).flatten(1).norm(dim=1)
    return (difference / maps.flatten(1).norm(dim=1)).tolist()


def _negative(at: Subject, layer: str) -> dict[str, np.ndarray]:
    """Return by layer beneath the share of the energy below 0 that arrives there, unit by unit."""
    shares: dict[str, list[float]] = {}
    for part, trace in traces(at, at.units(layer)[:: at.scale.units]):
        for place, signal in arrivals(trace, layer, lone_signal(trace, part)).items():
            if place not in (layer, "pixels"):
                energy = signal.square().flatten(1)
                negative = (energy * (signal.flatten(1) < 0)).sum(1)
                shares.setdefault(place, []).extend((negative / energy.sum(1)).tolist())
    return {place: np.array(values) for place, values in shares.items()}
