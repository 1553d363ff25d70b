"""Section 4: what the projections and patches of a layer's maps show, from simple pieces to whole objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from skimage.filters import gaussian
from skimage.measure import label
from torch import Tensor
from torch.nn import functional as F

from ...architecture import Box, receptive_field
from ...deconv import cut, descend
from ...network import Trace
from .. import grouping
from ..fig2 import drawn_maps
from ..fig4 import projected
from ..invariance import EXACT
from ..setting import at_hand, training_of
from .finding import SEEDS, UNTESTABLE, Finding, above, every, rising, verdict
from .hiding import energies
from .method import lone_signal, traces
from .stored import Measured, Stored, counted, measured
from .subject import Subject

EXCESS = 0.2
"""By how much a map's energy outside the object exceeds the area there, in shares, to look at the background."""

SHARE = 0.9
"""Of a projection's energy that counts as all of it."""

LARGE = 224
"""Pixels at which the windows of all layers are smaller than the picture."""

SIDE = 24
"""Pixels to which patches are resized before their pixels are compared."""

EDGE, LEAST, DIRECTIONS = 0.25, 4, 4
"""Gradients above this share of the largest form a piece of edge, of so many pixels at least and one direction."""

BACKGROUND, BEYOND = "maps on the background", "energy outside less area"
EXTENT, OF_FIELD = "side of the square that holds 90 %", "of the receptive field"
PIECES, BENEATH = "pieces of edges", "maps beneath that take part"
WINDOW, COVERED = "window of layer 5", "object within the square that holds 90 %"
VARIATION = "variation in pixels over that in layer 5"


def background(at: Subject) -> Iterator[Measured]:
    """Measure how much of the energy of the top layer's projections lies outside the object, map by map."""
    for seed, subject in _seeds(at):
        active = (subject.hits[subject.layers[-1]].score > 0).all(1).nonzero().flatten().tolist()
        shares = outside_shares(subject, active)
        yield counted(BACKGROUND, sum(share > EXCESS for share in shares.values()), len(shares), "maps", seed=seed)
        for map_ in sorted(shares, key=shares.get, reverse=True)[:3]:
            yield counted(BEYOND, 100 * shares[map_], 9, "points", map=map_, seed=seed)
    drawn = drawn_maps(at.untrained.hits[at.layers[-1]], at.scale.maps, at.seed)
    control = np.array(list(outside_shares(at.untrained, drawn).values()))
    yield measured(f"{BACKGROUND}, random weights", 100.0 * (control > EXCESS), "%")


def background_feature(stored: Stored) -> Finding:
    """Tell whether some maps of the top layer show the background, in more than one training."""
    found = stored.numbers
    counts = found.by("seed", BACKGROUND)
    numbers = {f"{BACKGROUND}, seed {seed}": number for seed, number in counts.items()}
    numbers |= {"with random weights": found.one(f"{BACKGROUND}, random weights")}
    numbers |= {f"map {map_}: {BEYOND}": number for map_, number in found.by("map", BEYOND, seed=0).items()}
    some_maps = [number.value >= 1 for number in counts.values()]
    note = "`zfnet atlas` shows the nine patches of every map."
    if len(counts) == 1:
        note += " One training: whether another has such maps was not asked."
    return Finding(verdict(every([*some_maps, len(counts) > 1 or None]), not any(some_maps)), numbers, note)


def growing(at: Subject) -> Iterator[Measured]:
    """Measure projections layer by layer: how far they reach, of how many edges and maps beneath they consist."""
    for weights, subject in (("trained", at), ("untrained", at.untrained)):
        for layer in at.layers:
            place = {"layer": layer, "weights": weights}
            shown = projected(subject.net, at.dataset, subject.units(layer)).numpy()
            extents = np.array([grouping.extent(each, SHARE) for each in shown])
            field = min(receptive_field(at.net.spec, layer).size, at.net.preparation.crop)
            yield measured(EXTENT, extents, "pixels", **place)
            yield measured(OF_FIELD, 100 * extents / field, "%", **place)
            yield measured(PIECES, [edge_pieces(each) for each in shown], "pieces", **place)
        for beneath, layer in pairwise(at.layers):
            counts = _maps_beneath(subject, layer, beneath)
            yield measured(BENEATH, counts, "maps", layer=layer, weights=weights)


def hierarchical(stored: Stored) -> Finding:
    """Tell whether extent and complexity of the projections rise with every layer."""
    found, numbers = stored.numbers, {}
    for quantity in (EXTENT, PIECES, OF_FIELD, BENEATH):
        by_layer = found.by("layer", quantity, weights="trained")
        numbers |= {f"{layer}: {quantity}": number for layer, number in by_layer.items()}
    for quantity in (EXTENT, PIECES):
        by_layer = found.by("layer", quantity, weights="untrained")
        numbers |= {f"{layer}, random weights: {quantity}": number for layer, number in by_layer.items()}
    rises = (rising(found.by("layer", quantity, weights="trained").values()) for quantity in (EXTENT, PIECES))
    note = f"Extent rises partly by construction; pictures of {stored.side} pixels, layer 5's windows have 139."
    return Finding(verdict(every(rises)), numbers, note)


def objects(at: Subject) -> Iterator[Measured]:
    """On large pictures: how much of the object projections of layer 5 cover, and how maps vary in pixels."""
    large = at.enlarged(LARGE)
    top, side = large.layers[-1], large.net.preparation.crop
    yield counted(WINDOW, receptive_field(large.net.spec, top).size / side, 1, "of the picture")
    yield measured(COVERED, 100 * _coverage(large, top), "%", np.median)
    for layer in large.layers:
        yield measured(VARIATION, _pose_variation(large, layer), "times", layer=layer)


def objects_with_pose(stored: Stored) -> Finding:
    """Tell whether layer 5 covers whole objects, and maps vary the more in pixels the higher the layer."""
    found = stored.numbers
    coverage, by_layer = found.one(COVERED), found.by("layer", VARIATION)
    numbers = {COVERED: coverage} | {f"{layer}: {VARIATION}": number for layer, number in by_layer.items()}
    if found.one(WINDOW).value >= 1:
        return Finding(UNTESTABLE, numbers, "Layer 5's window covers the picture.")
    note = (
        f"Convolutions at {LARGE} pixels. Distances within a map count in those between maps of the layer; "
        f"features are those of layer 5 at the middle of the patch."
    )
    return Finding(verdict(every([above(coverage, 50), rising(by_layer.values())])), numbers, note)


def outside_shares(at: Subject, maps: Sequence[int]) -> dict[int, float]:
    """Return by map of the top layer the median share of energy outside the object, less that of the area."""
    hits, shares = at.hits[at.layers[-1]], {}
    for map_ in maps:
        units = hits.units(map_)
        rows = [unit.image for unit in units]
        placed = [unit._replace(image=i) for i, unit in enumerate(units)]
        shares[map_] = float(np.median(outside(energies(at, at.x(rows), placed), at.objects(rows))))
    return shares


def outside(energy: Tensor, inside: Tensor) -> np.ndarray:
    """Return the share of energy [n, H, W] outside a region [n, H, W], less the share of the area outside it.

    Example:
        >>> energy, inside = torch.ones(1, 2, 2), torch.tensor([[[True, False], [False, False]]])
        >>> energy[0, 0, 0] = 5
        >>> outside(energy, inside).tolist()
        [-0.375]
    """
    share = (energy * ~inside).sum((1, 2)) / energy.sum((1, 2))
    return (share - (~inside).float().mean((1, 2))).numpy()


def edge_pieces(projection: np.ndarray) -> int:
    """Count the pieces of edges in a projection [3, s, s]: strong gradients of one direction that hang together.

    Example:
        >>> bar = np.zeros((3, 40, 40))
        >>> bar[:, 10:30, 15:25] = 1
        >>> edge_pieces(bar), edge_pieces(np.zeros((3, 9, 9)))
        (4, 0)
    """
    smooth = gaussian(np.asarray(projection, float), 0.7, channel_axis=0)
    down, across = np.gradient(smooth, axis=(1, 2))
    strength = np.sqrt((down**2 + across**2).sum(0))
    if not strength.any():
        return 0
    angle = 0.5 * np.arctan2(2 * (down * across).sum(0), (across**2 - down**2).sum(0))
    direction = np.round(angle / (np.pi / DIRECTIONS)).astype(int) % DIRECTIONS
    pieces = np.where(strength > EDGE * strength.max(), direction + 1, 0)
    sizes = np.bincount(label(pieces, background=0, connectivity=2).ravel())[1:]
    return int((sizes >= LEAST).sum())


def participation(energy: Tensor) -> Tensor:
    """Return how many maps take part in energies [n, maps]: (sum e)^2 / sum e^2.

    Example:
        >>> participation(torch.tensor([[1.0, 1.0, 1.0, 0.0], [5.0, 0.0, 0.0, 0.0]])).tolist()
        [3.0, 1.0]
    """
    return energy.sum(1).square() / energy.square().sum(1)


def _seeds(at: Subject) -> Iterator[tuple[int, Subject]]:
    """Yield the network's own training and further ones of it that are at hand; `smoke` trains none for this."""
    yield 0, at
    for seed in range(1, SEEDS) if at.profile != "smoke" else ():
        net = at_hand(training_of(at.profile, "zfnet", seed))
        if net:
            yield seed, at.seen_by(net)


def _maps_beneath(at: Subject, layer: str, beneath: str) -> list[float]:
    """Return unit by unit how many maps of the layer beneath take part in its projection."""
    found = []
    for part, trace in traces(at, at.units(layer)[:: at.scale.units]):
        handed_on = descend(trace, layer, lone_signal(trace, part))[beneath]
        found += participation(handed_on.square().sum((2, 3))).tolist()
    return found


def _coverage(at: Subject, layer: str) -> np.ndarray:
    """Return unit by unit which share of the object lies in the smallest square with 90 % of its projection."""
    shares = []
    for unit in at.units(layer):
        energy = energies(at, at.x([unit.image]), [unit._replace(image=0)])[0].double().numpy()
        side, top, left = grouping.smallest_square(energy, SHARE)
        inside = at.objects([unit.image])[0]
        covered = inside[top : top + side, left : left + side]
        shares.append(float(covered.sum() / inside.sum()))  # NaN where no object is marked
    return np.array(shares)


def _pose_variation(at: Subject, layer: str) -> np.ndarray:
    """Return for half of the maps how their patches vary in pixels, over how they vary in layer 5."""
    pixels, features, units = [], [], at.units(layer)
    units = units[: max(at.scale.maps // 2, 2) * at.scale.units]
    for part, trace in traces(at, units, at.layers[-1]):
        boxes = [receptive_field(at.net.spec, layer).box(unit.row, unit.column) for unit in part]
        pixels += [_resized(*pair) for pair in zip(trace.x, boxes, strict=True)]
        features += [_at_middle(trace, i, box) for i, box in enumerate(boxes)]
    maps = np.array([unit.map for unit in units])
    with np.errstate(divide="ignore"):  # patches that are one to layer 5 have no ratio
        return variation(np.stack(pixels), maps) / variation(np.stack(features), maps)


def _resized(picture: Tensor, box: Box) -> np.ndarray:
    """Return the pixels of a box at a common size, as a vector; beyond the edge is grey."""
    piece = cut(picture, box)[None]
    return F.interpolate(piece, (SIDE, SIDE), mode="bilinear", antialias=True).flatten().numpy()


def _at_middle(trace: Trace, i: int, box: Box) -> np.ndarray:
    """Return what the top layer answers to picture i where its field lies nearest to the middle of a box [maps]."""
    spec = trace.net.spec
    top = spec.convs[-1].name
    field, maps = receptive_field(spec, top), trace[top].maps[i]
    middles = ((box.top + box.bottom) / 2, (box.left + box.right) / 2)
    places = (round((middle - field.offset - field.size / 2) / field.stride) for middle in middles)
    row, column = (min(max(place, 0), side - 1) for place, side in zip(places, maps.shape[1:], strict=True))
    return maps[:, row, column].numpy()


def variation(values: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Return the mean distance of each map's vectors, in the mean distance of vectors of different maps [maps].

    Args:
        values: [n, d].
        maps: Whose vectors they are [n].

    Example:
        >>> variation(np.array([[0.0], [1.0], [8.0], [10.0]]), np.array([0, 0, 1, 1])).round(3).tolist()
        [0.118, 0.235]
    """
    vectors = torch.from_numpy(values).double()
    distances = torch.cdist(vectors, vectors, compute_mode=EXACT).numpy()
    within = []
    for map_ in np.unique(maps):
        own = distances[np.ix_(maps == map_, maps == map_)]
        within.append(own.sum() / max(own.size - len(own), 1))
    return np.array(within) / distances[maps[:, None] != maps[None]].mean()
