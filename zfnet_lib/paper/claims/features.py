"""Sections 4 and 6: what maps respond to, how invariant that is, and how it develops in training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from math import sqrt

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...architecture import Box, Conv, Unit, receptive_field
from ...network import ConvNet
from ...strongest import patch, strongest
from ...training import FIGURE_4_OF
from .. import grouping
from ..fig2 import drawn_maps
from ..fig4 import ALIGNMENT, LARGEST, NEARNESS, PROBE, crossing
from ..invariance import TRANSFORMATIONS, Transformation, invariance, transformed
from ..sanity import rank_correlation
from .evidence import (
    Finding,
    Number,
    Numbers,
    Stored,
    Subject,
    above,
    apart,
    at_least,
    below,
    every,
    exact,
    measured,
    some,
    verdict,
)
from .stimuli import MADE, answers, colour_edges, corners, gratings, scrambled

UPPER = ("conv2", "conv3", "conv4", "conv5")

# How far pictures are moved: 1 to 16 of 112 pixels, 0.8 to 1.25 times, to 30 degrees; and how far to look for the
# strongest units again.
STEPS = {
    "shift": tuple(sign * pixels / 112 for pixels in (1, 2, 4, 8, 16) for sign in (-1, 1)),
    "scale": (0.8, 0.9, 1.1, 1.25),
    "turn": (-30.0, -20.0, -10.0, 10.0, 20.0, 30.0),
}
MOVES = {"shift": 8 / 112, "scale": 1.25, "turn": 20.0}

PREFER, SCRAMBLED = "maps that prefer corners or coloured edges", "kept under scrambling"
INDEX, RANKS = "index of invariance", "rank correlation of the index with the layer"
MORE = "rises more than with random weights"
ALIKE, LABELS = "patches of a map, {}: mean cosine", "entropy of the labels of the nine"
COMBINED = "combined"


# ---- what the strongest units of a map share: the records of Fig. 2 in numbers ---------------------------------


def _trained(found: Numbers, quantity: str) -> dict[str, Number]:
    return found.by("layer", quantity, weights="trained")


def resembles_its_piece(stored: Stored, near: float, far: float, chance: float, share: float) -> Finding:
    retrieved, extent = (_trained(stored.numbers, quantity) for quantity in (grouping.FOUND, grouping.EXTENT))
    levels = {"conv2": near, "conv3": near, "conv4": far, "conv5": far}
    small = {layer: number for layer, number in extent.items() if layer in ("conv1", "conv2", "conv3")}
    holds = [at_least(retrieved[layer], level) for layer, level in levels.items()]
    holds += [below(number, share * stored.side) for number in small.values()]
    fails = some(below(retrieved[layer], chance) for layer in levels) is True
    numbers = {f"{layer}: own patch found": retrieved[layer] for layer in levels}
    numbers |= {f"{layer}: side that holds 90 %": number for layer, number in small.items()}
    return Finding(verdict(every(holds), fails), numbers)


def strong_grouping(stored: Stored, share: float) -> Finding:
    numbers, alike, many = {}, [], []
    for name in grouping.DESCRIPTORS:
        quantities = (grouping.LIKE, grouping.RANDOM, grouping.MORE_THAN_RANDOM)
        within, random, above_random = (_trained(stored.numbers, each.format(name)) for each in quantities)
        alike += [above(within[layer], random[layer].value) for layer in UPPER]
        many += [at_least(above_random[layer], share) for layer in UPPER]
        numbers |= {f"{layer}, {name}: maps above the 95 % level": above_random[layer] for layer in UPPER}
    return Finding(verdict(every(alike + many), False in alike), numbers)


def patches_vary_more(stored: Stored, share: float) -> Finding:
    by_name = {name: _trained(stored.numbers, grouping.VARY.format(name)) for name in grouping.DESCRIPTORS}
    numbers = {f"{layer}, {name}": found[layer] for name, found in by_name.items() for layer in UPPER}
    return Finding(verdict(every(at_least(number, share) for number in numbers.values())), numbers)


def class_specific(stored: Stored) -> Finding:
    kinds = ("trained", "untrained")
    trained, untrained = (stored.numbers.by("layer", grouping.ENTROPY, weights=each) for each in kinds)
    falls, anyway = (every(apart(by[a], by[b]) for a, b in pairwise(UPPER[:3])) for by in (trained, untrained))
    numbers = {layer: trained[layer] for layer in UPPER}
    numbers |= {f"{layer}, random weights": untrained[layer] for layer in UPPER}
    numbers["by chance"] = next(iter(_trained(stored.numbers, grouping.CHANCE).values()))
    fails = apart(trained["conv3"], trained["conv4"]) is False
    return Finding(verdict(every([falls, anyway is not True]), fails), numbers)


# ---- how features develop: the records of Fig. 4 ----------------------------------------------------------------


def _crossings(found: Numbers, level: float) -> dict[str, dict[str, Number]]:
    """Return by what is compared and layer the percent of the training from which on it stays at a level."""
    crossings = {}
    for what, quantity in {"answers": ALIGNMENT, "projections": NEARNESS}.items():
        for layer in found.by("layer", ALIGNMENT):
            curve = found.by("epoch", quantity, layer=layer)
            epoch = crossing(list(curve), [number.value for number in curve.values()], level)
            crossings.setdefault(what, {})[layer] = exact(100 * epoch / FIGURE_4_OF, "%")
    return crossings


def converge_early(stored: Stored, level: float, early: float) -> Finding:
    crossings = _crossings(stored.numbers, level)
    numbers = {f"{layer}, {what}": crossings[what][layer] for layer in ("conv1", "conv2") for what in crossings}
    return Finding(verdict(all(number.value <= early for number in numbers.values())), numbers)


def develop_late(stored: Stored, level: float, late: float) -> Finding:
    crossings = _crossings(stored.numbers, level)
    curves = [[number.value for number in found.values()] for found in crossings.values()]
    rises = [curve == sorted(curve) and curve[-1] > curve[0] for curve in curves]
    after = [found["conv5"].value > late for found in crossings.values()]
    numbers = {f"{layer}, {what}": number for what, found in crossings.items() for layer, number in found.items()}
    return Finding(verdict(all(rises + after), not any(after) or not any(rises)), numbers)


def jumps(stored: Stored, changed: float, few: float) -> Finding:
    found = stored.numbers
    by_layer = found.by("layer", LARGEST)
    same, other = (found.by("layer", "median cosine", kind=kind) for kind in ("same unit", "other picture"))
    steps = [number.n for number in by_layer.values()]
    mean = float(np.average([number.value for number in by_layer.values()], weights=steps))
    numbers = {"all layers": exact(mean, "%", sum(steps) // 10)} | by_layer
    distinct = all(same[layer].value > other[layer].value for layer in by_layer)
    return Finding(verdict(mean >= changed and distinct, mean < few), numbers)


def until_converged(stored: Stored, begin: int) -> Finding:
    gains = {}
    for layer in ("conv1", "conv2", "conv5", "fc6", "fc7"):
        curve = stored.numbers.by("epoch", PROBE, layer=layer)
        before, after = curve[begin], curve[max(curve)]
        # Twice the error of the difference of two shares.
        margin = 2 * sqrt(sum(each.value * (100 - each.value) / each.n for each in (before, after)))
        gain = after.value - before.value
        gains[layer] = Number(gain, gain - margin, gain + margin, after.n, "points")
    lower, upper = ([above(gains[layer], 0) for layer in each] for each in (list(gains)[:2], list(gains)[2:]))
    holds = every([*upper, *(gained is not True for gained in lower)])
    return Finding(verdict(holds, all(gained is False for gained in upper)), gains)


# ---- what layers answer to stimuli and scrambled textures ----------------------------------------------------


def probed(at: Subject) -> Iterator[Number]:
    """Show gratings, corners and coloured edges to layer 2, and scrambled textures to layers 2 to 4."""
    side = at.net.preparation.crop
    for weights, net in (("trained", at.net), ("untrained", at.untrained.net)):
        shown = (answers(net, at.layers[1], made(side)).amax(0) for made in (gratings, corners, colour_edges))
        plain, *others = shown
        best = torch.stack(others).amax(0)
        selective = (best > plain)[torch.maximum(best, plain) > 0].numpy()  # silent maps are left out
        yield measured(PREFER, 100.0 * selective, "%", weights=weights)._replace(data=MADE)
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


def edges_then_textures(stored: Stored, majority: float) -> Finding:
    found = stored.numbers
    share, control = (found.one(PREFER, weights=weights) for weights in ("trained", "untrained"))
    kept = found.by("layer", SCRAMBLED)
    numbers = {f"layer 2: {PREFER}": share, "with random weights": control}
    numbers |= {f"{layer}: {SCRAMBLED}": number for layer, number in kept.items()}
    return Finding(verdict(every([above(share, majority), apart(kept["conv3"], kept["conv4"])])), numbers)


# ---- what stays when pictures are moved ----------------------------------------------------------------------


def moved(at: Subject) -> Iterator[Number]:
    """Move pictures; measure how much stays of every layer's features, and of the strongest units."""
    pictures = list(at.squares(at.few[: max(at.scale.few // 4, 2)]))
    ways = [replace(each, steps=STEPS[each.way]) for each in TRANSFORMATIONS]
    ours, control = (indices(net, pictures, ways) for net in (at.net, at.untrained.net))
    for way, index in ours.items():
        *_, top = index
        for layer, values in index.items():
            yield measured(INDEX, values, layer=layer, way=way)
            yield measured("with random weights", control[way][layer], layer=layer, way=way)
        yield correlation(np.stack([*index.values()], 1), at.seed, way)
        rises = [each[top] - each[at.layers[0]] for each in (index, control[way])]
        yield measured(MORE, rises[0] - rises[1], way=way)
    for layer in at.layers:
        units = at.units(layer)[:: at.scale.units]
        squares, maps = at.squares([unit.image for unit in units]), [unit.map for unit in units]

        def maxima(squares: Tensor, layer=layer, maps=maps) -> np.ndarray:
            return answers(at.net, layer, at.net.prepare(squares))[range(len(maps)), maps].numpy()

        before = maxima(squares)
        for way, step in MOVES.items():
            views = torch.stack([transformed(each, at.net.preparation, **{way: step}) for each in squares])
            kept = 100 * (maxima(views) / before)
            yield measured("maximum kept", kept, "%", np.median, layer=layer, way=way)


def indices(net: ConvNet, pictures: Sequence[Tensor], ways: Sequence[Transformation]) -> dict[str, dict]:
    """Return by way and layer how invariant each picture's features are: 1 is no change, 0 another picture."""
    return {
        sweep.transformation.way: {layer: 1 - distance.mean(1) for layer, distance in sweep.distances.items()}
        for sweep in invariance(net, pictures, None, ways).sweeps
    }


def correlation(index: np.ndarray, seed: int, way: str) -> Number:
    """Return the rank correlation of the mean index [pictures, layers] with the layer, bootstrapped."""
    n, layers = index.shape
    draws = np.random.default_rng(seed).integers(0, n, (1000, n))
    value, *others = (rank_correlation(np.arange(layers), each.mean(0)) for each in (index, *index[draws]))
    low, high = np.quantile(others, (0.025, 0.975)).tolist()
    return Number(value, low, high, n, "rho", float(np.std(others)), RANKS, {"way": way})


def invariance_grows(stored: Stored, level: float, least: int) -> Finding:
    found = stored.numbers
    ranks, more = (found.by("way", quantity) for quantity in (RANKS, MORE))
    numbers = {f"{way}: rank correlation with the layer": number for way, number in ranks.items()}
    numbers |= {f"{way}: {MORE}": number for way, number in more.items()}
    for way in ranks:
        first, *_, last = found.by("layer", INDEX, way=way).items()
        numbers |= {f"{way}: {layer}": number for layer, number in (first, last)}
    grows = [every([above(ranks[way], level), above(more[way], 0)]) for way in ranks]
    holds = True if grows.count(True) >= least else None if len(grows) - grows.count(False) >= least else False
    fails = sum(above(number, 0) is False for number in ranks.values()) >= least
    return Finding(verdict(holds, fails), numbers)


# ---- section 6: maps beside random directions ----------------------------------------------------------------


def coherent(at: Subject) -> Iterator[Number]:
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
            for name, describe in grouping.DESCRIPTORS.items():
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


def far_from_random(stored: Stored) -> Finding:
    maps = {"trained": "maps", "untrained": "maps with random weights", COMBINED: "random combinations of maps"}
    numbers, leads = {}, {"untrained": [], COMBINED: []}
    for layer in UPPER[1:]:
        alike, labels = (stored.numbers.by("of", what, layer=layer) for what in (ALIKE.format("shape"), LABELS))
        for of, truths in leads.items():
            truths += [apart(alike["trained"], alike[of]), apart(labels[of], labels["trained"])]
        numbers |= {f"{layer}, {maps[of]}: alike in shape": number for of, number in alike.items()}
        numbers |= {f"{layer}, {maps[of]}: entropy of labels": number for of, number in labels.items()}
    special = every(leads[COMBINED])
    note = "Somewhere random combinations are not clearly less coherent: maps are no special axes there."
    answer = verdict(every([*leads["untrained"], special]), False in leads["untrained"])
    return Finding(answer, numbers, "" if special else note)
