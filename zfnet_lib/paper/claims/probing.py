"""Section 4: what layers answer to stimuli made for the purpose, to scrambled textures, and to moved pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...architecture import Unit, receptive_field
from ...network import ConvNet
from ..invariance import TRANSFORMATIONS, Transformation, transformed
from ..invariance import invariance as followed
from ..sanity import rank_correlation
from .finding import Finding, above, apart, every, verdict
from .stimuli import MADE, colour_edges, corners, gratings, scrambled
from .stored import Measured, Stored, measured
from .subject import Subject

BATCH = 32

STEPS = {
    "shift": tuple(sign * pixels / 112 for pixels in (1, 2, 4, 8, 16) for sign in (-1, 1)),
    "scale": (0.8, 0.9, 1.1, 1.25),
    "turn": (-30.0, -20.0, -10.0, 10.0, 20.0, 30.0),
}
"""How far pictures are moved: 1 to 16 of 112 pixels, 0.8 to 1.25 times, to 30 degrees."""

MOVES = {"shift": 8 / 112, "scale": 1.25, "turn": 20.0}
"""The moves after which the strongest units are looked for again."""

LEVEL = 0.9
"""The rank correlation with the layer from which on invariance counts as growing."""

PREFER, SCRAMBLED = "maps that prefer corners or coloured edges", "kept under scrambling"
INDEX, RANKS = "index of invariance", "rank correlation of the index with the layer"
MORE = "rises more than with random weights"


def probed(at: Subject) -> Iterator[Measured]:
    """Show gratings, corners and coloured edges to layer 2, and scrambled textures to layers 2 to 4."""
    second = at.layers[1]
    for weights, subject in (("trained", at), ("untrained", at.untrained)):
        selective = 100.0 * _selective(subject.net, second)
        share = measured(PREFER, selective, "%", weights=weights)
        yield replace(share, data=MADE)
    for layer in at.layers[1:4]:
        yield measured(SCRAMBLED, 100 * _kept_scrambled(at, layer), "%", layer=layer)


def edges_then_textures(stored: Stored) -> Finding:
    """Tell whether layer 2 prefers corners and coloured edges, and layer 3 keeps more of textures than layer 4."""
    found = stored.numbers
    share, control = (found.one(PREFER, weights=weights) for weights in ("trained", "untrained"))
    kept = found.by("layer", SCRAMBLED)
    numbers = {f"layer 2: {PREFER}": share, "with random weights": control}
    numbers |= {f"{layer}: {SCRAMBLED}": number for layer, number in kept.items()}
    note = (
        "To gratings of one contrast. Squares of 75 pixels on grey, scrambled to the same histograms of pixels and "
        "of oriented filters of three octaves; the map's maximum before and after."
    )
    return Finding(verdict(every([above(share, 50), apart(kept["conv3"], kept["conv4"])])), numbers, note)


def moved(at: Subject) -> Iterator[Measured]:
    """Move pictures; measure how much stays of every layer's features, and of the strongest units."""
    rows = at.few[: max(at.scale.few // 4, 2)]
    ways = [replace(each, steps=STEPS[each.way]) for each in TRANSFORMATIONS]
    ours, control = (_indices(subject, rows, ways) for subject in (at, at.untrained))
    for way, index in ours.items():
        layers = list(index)
        for layer in layers:
            yield measured(INDEX, index[layer], layer=layer, way=way)
            yield measured("with random weights", control[way][layer], layer=layer, way=way)
        yield _correlation(np.stack([index[layer] for layer in layers], 1), at.seed, way)
        rises = [each[layers[-1]] - each[layers[0]] for each in (index, control[way])]
        yield measured(MORE, rises[0] - rises[1], way=way)
    for layer in at.layers:
        for way, kept in _kept_moved(at, layer).items():
            yield measured("maximum kept", 100 * kept, "%", np.median, layer=layer, way=way)


def invariance_grows(stored: Stored) -> Finding:
    """Tell whether features change less the higher the layer, and more so than with random weights."""
    found = stored.numbers
    ranks, more = (found.by("way", name) for name in (RANKS, MORE))
    numbers = {f"{way}: rank correlation with the layer": number for way, number in ranks.items()}
    numbers |= {f"{way}: {MORE}": number for way, number in more.items()}
    for way in ranks:
        by_layer = list(found.by("layer", INDEX, way=way).items())
        numbers |= {f"{way}: {layer}": number for layer, number in (by_layer[0], by_layer[-1])}
    grows = {way: every([above(ranks[way], LEVEL), above(more[way], 0)]) for way in ranks}
    sure, possible = (sum(truth in allowed for truth in grows.values()) for allowed in ((True,), (True, None)))
    holds = True if sure >= 2 else None if possible >= 2 else False
    level = sum(above(number, 0) is False for number in ranks.values()) >= 2
    note = "1 less the mean distance of all steps, in that from other pictures; contrast was not changed."
    return Finding(verdict(holds, level), numbers, note)


def answers(net: ConvNet, layer: str, x: Tensor) -> Tensor:
    """Return the largest activation of each map in each picture [n, maps]."""
    part = net.features(layer)
    with torch.inference_mode():
        found = [part.trace(each)[layer].maps.amax((2, 3)) for each in x.split(BATCH)]
    return torch.cat(found)


def _selective(net: ConvNet, layer: str) -> np.ndarray:
    """Tell which maps answer more to corners or coloured edges than to gratings; silent maps are left out."""
    side = net.preparation.crop
    to_gratings, *others = (answers(net, layer, x(side)).amax(0) for x in (gratings, corners, colour_edges))
    preferred = torch.stack(others).amax(0)
    return (preferred > to_gratings)[torch.maximum(preferred, to_gratings) > 0].numpy()


def _kept_scrambled(at: Subject, layer: str, each: int = 2) -> np.ndarray:
    """Return map by map what is left of its strongest answers when their surroundings are scrambled."""
    net, side = at.net, at.net.preparation.crop
    size = min(receptive_field(net.spec, at.layers[2]).size, side)
    units = [unit for i, unit in enumerate(at.units(layer)) if i % at.scale.units < each]
    kept = []
    for place, unit in enumerate(units):
        x = at.x([unit.image])
        top, left = _around(net, unit, size, side)
        window = (..., slice(top, top + size), slice(left, left + size))
        views = torch.zeros(2, *x.shape[1:])
        views[0][window] = x[window][0]
        views[1][window] = scrambled(x, (top, left), size, seed=at.seed + place)[0]
        before, after = answers(net, layer, views)[:, unit.map].tolist()
        kept.append(after / before if before else np.nan)
    return _by_map(units, kept)


def _around(net: ConvNet, unit: Unit, size: int, side: int) -> list[int]:
    """Return top and left of a square of `size` around a unit's field, moved into a picture of `side`."""
    box = receptive_field(net.spec, unit.layer).box(unit.row, unit.column)
    centres = (box.top + box.bottom) // 2, (box.left + box.right) // 2
    return [min(max(centre - size // 2, 0), side - size) for centre in centres]


def _by_map(units: Sequence[Unit], values: Sequence[float]) -> np.ndarray:
    """Return the mean of the values of each map's units [maps]."""
    maps, values = np.array([unit.map for unit in units]), np.asarray(values)
    return np.array([values[maps == each].mean() for each in np.unique(maps)])


def _indices(at: Subject, rows: Sequence[int], ways: Sequence[Transformation]) -> dict[str, dict[str, np.ndarray]]:
    """Return by way and layer how invariant each picture's features are: 1 is no change, 0 another picture."""
    found = followed(at.net, list(at.squares(rows)), None, ways)
    return {
        sweep.transformation.way: {layer: 1 - moved.mean(1) for layer, moved in sweep.distances.items()}
        for sweep in found.sweeps
    }


def _correlation(index: np.ndarray, seed: int, way: str, draws: int = 1000) -> Measured:
    """Return the rank correlation of the mean index [pictures, layers] with the layer, bootstrapped."""
    n, layers = index.shape
    drawn = np.random.default_rng(seed).integers(0, n, (draws, n))
    order = np.arange(layers)
    found = [rank_correlation(order, index[rows].mean(0)) for rows in drawn]
    low, high = np.quantile(found, (0.025, 0.975))
    value = rank_correlation(order, index.mean(0))
    return Measured(RANKS, value, float(low), float(high), n, "rho", float(np.std(found)), {"way": way})


def _kept_moved(at: Subject, layer: str) -> dict[str, np.ndarray]:
    """Return by way what is left of the maximum of each map in the picture that excites it most."""
    units = at.units(layer)[:: at.scale.units]
    maps, preparation = [unit.map for unit in units], at.net.preparation
    squares = at.squares([unit.image for unit in units])
    views = {"": squares}
    for way, step in MOVES.items():
        views[way] = torch.stack([transformed(square, preparation, **{way: step}) for square in squares])
    peaks = {way: answers(at.net, layer, at.net.prepare(each)) for way, each in views.items()}
    before, *after = (peak[range(len(maps)), maps].numpy() for peak in peaks.values())
    return dict(zip(MOVES, (each / before for each in after), strict=True))
