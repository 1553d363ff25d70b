"""Sections 4 and 6: what maps respond to, how invariant that is, and how it develops in training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from math import sqrt

import numpy as np
import torch
from torch.nn import functional as F

from ...architecture import Box, Conv, receptive_field
from ...network import ConvNet
from ...strongest import patch, strongest
from ...training import FIGURE_4_OF
from .. import grouping
from ..evolution import crossing
from ..fig2 import drawn_maps
from ..fig4 import ALIGNMENT, LARGEST, NEARNESS, PROBE
from ..grouping import CHANCE, DESCRIPTORS, ENTROPY, EXTENT, FOUND, LIKE, MORE_THAN_RANDOM, RANDOM, VARY
from ..invariance import TRANSFORMATIONS, invariance, transformed
from ..sanity import rank_correlation
from .stimuli import MADE, answers, colour_edges, corners, gratings, scrambled

STEPS = {
    "shift": tuple(sign * pixels / 112 for pixels in (1, 2, 4, 8, 16) for sign in (-1, 1)),
    "scale": (0.8, 0.9, 1.1, 1.25),
    "turn": (-30.0, -20.0, -10.0, 10.0, 20.0, 30.0),
}
"""How far pictures are moved: 1 to 16 of 112 pixels, 0.8 to 1.25 times, to 30 degrees."""

MOVES = {"shift": 8 / 112, "scale": 1.25, "turn": 20.0}
"""The moves after which the strongest units are looked for again."""

PREFER, SCRAMBLED = "maps that prefer corners or coloured edges", "kept under scrambling"
INDEX, RANKS = "index of invariance", "rank correlation of the index with the layer"
MORE = "rises more than with random weights"
ALIKE, LABELS = "patches of a map, {}: mean cosine", "entropy of the labels of the nine"
COMBINED = "combined"


def probed(at: Subject) -> Iterator[Measured]:
    """Show gratings, corners and coloured edges to layer 2, and scrambled textures to layers 2 to 4."""
    side = at.net.preparation.crop
    for weights, net in (("trained", at.net), ("untrained", at.untrained.net)):
        shown = (answers(net, at.layers[1], made(side)).amax(0) for made in (gratings, corners, colour_edges))
        plain, *others = shown
        best = torch.stack(others).amax(0)
        selective = (best > plain)[torch.maximum(best, plain) > 0].numpy()  # silent maps are left out
        yield replace(measured(PREFER, 100.0 * selective, "%", weights=weights), data=MADE)
    size = min(receptive_field(at.net.spec, at.layers[2]).size, side)
    for layer in at.layers[1:4]:
        kept = {}
        for place, unit in enumerate(unit for i, unit in enumerate(at.units(layer)) if i % at.scale.units < 2):
            x, (top, left) = at.x([unit.image]), square_around(at.net, unit, size)
            square, views = (..., slice(top, top + size), slice(left, left + size)), torch.zeros(2, *x.shape[1:])
            views[0][square] = x[0][square]
            views[1][square] = scrambled(x, (top, left), size, seed=at.seed + place)[0]
            before, after = answers(at.net, layer, views)[:, unit.map].tolist()
            kept.setdefault(unit.map, []).append(after / before if before else np.nan)
        yield measured(SCRAMBLED, [100 * np.mean(each) for each in kept.values()], "%", layer=layer)


def square_around(net: ConvNet, unit: Unit, size: int) -> list[int]:
    """Return top and left of a square of so many pixels around a unit's field, moved into the picture."""
    box = receptive_field(net.spec, unit.layer).box(unit.row, unit.column)
    middles = (box.top + box.bottom) // 2, (box.left + box.right) // 2
    return [min(max(middle - size // 2, 0), net.preparation.crop - size) for middle in middles]


def moved(at: Subject) -> Iterator[Measured]:
    """Move pictures; measure how much stays of every layer's features, and of the strongest units."""
    pictures = list(at.squares(at.few[: max(at.scale.few // 4, 2)]))
    ways = [replace(each, steps=STEPS[each.way]) for each in TRANSFORMATIONS]
    ours, control = (indices(net, pictures, ways) for net in (at.net, at.untrained.net))
    for way, index in ours.items():
        for layer, values in index.items():
            yield measured(INDEX, values, layer=layer, way=way)
            yield measured("with random weights", control[way][layer], layer=layer, way=way)
        yield correlation(np.stack(list(index.values()), 1), at.seed, way)
        rises = [list(each.values())[-1] - list(each.values())[0] for each in (index, control[way])]
        yield measured(MORE, rises[0] - rises[1], way=way)
    for layer in at.layers:
        units = at.units(layer)[:: at.scale.units]
        squares, maps = at.squares([unit.image for unit in units]), [unit.map for unit in units]

        def maxima(squares: Tensor, layer=layer, maps=maps) -> np.ndarray:
            return answers(at.net, layer, at.net.prepare(squares))[range(len(maps)), maps].numpy()

        for way, step in MOVES.items():
            views = torch.stack([transformed(each, at.net.preparation, **{way: step}) for each in squares])
            kept = 100 * (maxima(views) / maxima(squares))
            yield measured("maximum kept", kept, "%", np.median, layer=layer, way=way)


def indices(net: ConvNet, pictures: Sequence[Tensor], ways: Sequence[Transformation]) -> dict[str, dict]:
    """Return by way and layer how invariant each picture's features are: 1 is no change, 0 another picture."""
    return {
        sweep.transformation.way: {layer: 1 - distance.mean(1) for layer, distance in sweep.distances.items()}
        for sweep in invariance(net, pictures, None, ways).sweeps
    }


def correlation(index: np.ndarray, seed: int, way: str) -> Measured:
    """Return the rank correlation of the mean index [pictures, layers] with the layer, bootstrapped."""
    n, layers = index.shape
    draws = np.random.default_rng(seed).integers(0, n, (1000, n))
    value, *others = (rank_correlation(np.arange(layers), each.mean(0)) for each in (index, *index[draws]))
    low, high = np.quantile(others, (0.025, 0.975)).tolist()
    return Measured(RANKS, value, low, high, n, "rho", float(np.std(others)), {"way": way})


def coherent(at: Subject) -> Iterator[Measured]:
    """Compare what excites maps with what excites maps of random weights and random combinations of maps."""
    for layer in at.layers[2:]:
        mixed = combined(at.net, layer, at.scale.maps, at.seed)
        ranked = {
            "trained": at.hits[layer],
            "untrained": at.untrained.hits[layer],
            COMBINED: strongest(mixed, at.dataset, 9, [COMBINED], rows=at.rows)[COMBINED],
        }
        for kind, hits in ranked.items():
            units = [hits.units(map_) for map_ in drawn_maps(hits, at.scale.maps, at.seed)]
            patches = [seen_by(at, layer, group) for group in units]
            for name, describe in DESCRIPTORS.items():
                described = np.array([[describe(one / 255) for one in group] for group in patches])
                alike = grouping.likeness(described, at.seed).within
                yield measured(ALIKE.format(name), alike, "cosine", layer=layer, of=kind)
            labels = at.dataset.labels[[[unit.image for unit in group] for group in units]]
            yield measured(LABELS, grouping.entropy(labels), "bits", layer=layer, of=kind)


def seen_by(at: Subject, layer: str, units: Sequence[Unit]) -> list[np.ndarray]:
    """Return what units see, uint8 [s, s, 3]; the whole picture where their field is larger."""
    side, field = at.net.preparation.crop, receptive_field(at.net.spec, layer)
    seen, whole = at.net.preparation.visible(at.x([unit.image for unit in units])), Box(0, 0, side, side)
    boxes = [whole if field.size >= side else field.box(unit.row, unit.column) for unit in units]
    return [patch(*pair) for pair in zip(seen, boxes, strict=True)]


def combined(net: ConvNet, layer: str, count: int, seed: int = 0) -> ConvNet:
    """Return a network whose last layer holds random directions among a layer's rectified maps, of unit length.

    A combination of maps at one place is a filter of one position, so that it has fields and hits like any map.
    """
    below = net.spec.features(layer)
    bare = replace(below.convs[-1], pool=None, norm=None)
    spec = replace(below, convs=(*below.convs[:-1], bare, Conv(COMBINED, count, 1)))
    mixed = ConvNet(spec, net.preparation, seed).eval()
    with torch.no_grad():
        for conv in below.convs:
            mixed.get_submodule(conv.name).load_state_dict(net.get_submodule(conv.name).state_dict())
        weight = mixed.get_submodule(COMBINED).weight
        weight.copy_(F.normalize(weight, dim=1))
    return mixed
