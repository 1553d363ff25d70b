"""Section 4: what projections and patches show of the layers: pieces, whole objects, and the background."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from skimage.filters import gaussian
from skimage.measure import label
from torch import Tensor
from torch.nn import functional as F

from ...architecture import receptive_field
from ...deconv import cut, descend
from .. import grouping
from ..fig2 import drawn_maps
from ..fig4 import projected
from ..invariance import EXACT
from ..setting import at_hand, training_of
from .deconvnet import lone_signal, traces
from .evidence import (
    SEEDS,
    UNTESTABLE,
    Finding,
    Number,
    Stored,
    Subject,
    above,
    counted,
    every,
    measured,
    rising,
    verdict,
)
from .occlusion import energies

SHARE = 0.9
"""Of a projection's energy that counts as all of it."""


# ---- the background ------------------------------------------------------------------------------------------

EXCESS = 0.2
"""By how much a map's energy outside the object exceeds the area there, in shares, to look at the background."""

BACKGROUND, BEYOND = "maps on the background", "energy outside less area"


def background(at: Subject) -> Iterator[Number]:
    """Measure how much of the energy of the top layer's projections lies outside the object, map by map.

    Further trainings of the network are asked too where they are at hand; `smoke` trains none for this.
    """
    trainings = [training_of(at.profile, "zfnet", seed) for seed in range(1, SEEDS) if at.profile != "smoke"]
    others = {training.seed: net for training in trainings if (net := at_hand(training))}
    for seed, subject in {0: at, **{seed: at.seen_by(net) for seed, net in others.items()}}.items():
        active = (subject.hits[subject.layers[-1]].score > 0).all(1).nonzero().flatten().tolist()
        shares = outside_shares(subject, active)
        yield counted(BACKGROUND, sum(share > EXCESS for share in shares.values()), len(shares), "maps", seed=seed)
        for map_ in sorted(shares, key=shares.get, reverse=True)[:3]:
            yield counted(BEYOND, 100 * shares[map_], 9, "points", map=map_, seed=seed)
    drawn = drawn_maps(at.untrained.hits[at.layers[-1]], at.scale.maps, at.seed)
    control = np.array(list(outside_shares(at.untrained, drawn).values()))
    yield measured(f"{BACKGROUND}, random weights", 100.0 * (control > EXCESS), "%")


def background_feature(stored: Stored, maps: int) -> Finding:
    found = stored.numbers
    counts = found.by("seed", BACKGROUND)
    numbers = {f"{BACKGROUND}, seed {seed}": number for seed, number in counts.items()}
    numbers |= {"with random weights": found.one(f"{BACKGROUND}, random weights")}
    numbers |= {f"map {map_}: {BEYOND}": number for map_, number in found.by("map", BEYOND, seed=0).items()}
    enough = [number.value >= maps for number in counts.values()]
    note = "`zfnet atlas` shows the nine patches of every map."
    if len(counts) == 1:
        note += " One training: whether another has such maps was not asked."
    return Finding(verdict(every([*enough, len(counts) > 1 or None]), not any(enough)), numbers, note)


def outside_shares(at: Subject, maps: Sequence[int]) -> dict[int, float]:
    """Return by map of the top layer the median share of energy outside the object, less that of the area."""
    hits, shares = at.hits[at.layers[-1]], {}
    for map_ in maps:
        units, x = at.pictures_of(hits.units(map_))
        inside = at.objects([unit.image for unit in hits.units(map_)])
        shares[map_] = float(np.median(outside(energies(at, x, units), inside)))
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


# ---- the hierarchy -------------------------------------------------------------------------------------------

EXTENT, OF_FIELD = "side of the square that holds 90 %", "of the receptive field"
PIECES, BENEATH = "pieces of edges", "maps beneath that take part"


def growing(at: Subject) -> Iterator[Number]:
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
            yield measured(BENEATH, maps_beneath(subject, layer, beneath), "maps", layer=layer, weights=weights)


def hierarchical(stored: Stored) -> Finding:
    found, numbers = stored.numbers, {}
    for weights, quantities in (("trained", (EXTENT, PIECES, OF_FIELD, BENEATH)), ("untrained", (EXTENT, PIECES))):
        control = ", random weights" if weights == "untrained" else ""
        for quantity in quantities:
            by_layer = found.by("layer", quantity, weights=weights)
            numbers |= {f"{layer}{control}: {quantity}": number for layer, number in by_layer.items()}
    rises = (rising(found.by("layer", quantity, weights="trained").values()) for quantity in (EXTENT, PIECES))
    note = f"Extent rises partly by construction; pictures of {stored.side} pixels, layer 5's windows have 139."
    return Finding(verdict(every(rises)), numbers, note)


def edge_pieces(projection: np.ndarray) -> int:
    """Count the pieces of edges in a projection [3, s, s]: strong gradients of one direction that hang together.

    Strong is above a quarter of the largest; there are four directions, and a piece has four pixels at least.

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
    direction = np.round(angle / (np.pi / 4)).astype(int) % 4
    pieces = np.where(strength > 0.25 * strength.max(), direction + 1, 0)
    sizes = np.bincount(label(pieces, background=0, connectivity=2).ravel())[1:]
    return int((sizes >= 4).sum())


def maps_beneath(at: Subject, layer: str, beneath: str) -> list[float]:
    """Return unit by unit how many maps of the layer beneath take part in its projection: (sum e)^2 / sum e^2."""
    found = []
    for part, trace in traces(at, at.units(layer)[:: at.scale.units]):
        energy = descend(trace, layer, lone_signal(trace, part))[beneath].square().sum((2, 3))
        found += (energy.sum(1).square() / energy.square().sum(1)).tolist()
    return found


# ---- objects and their poses ---------------------------------------------------------------------------------

LARGE = 224
"""Pixels at which the windows of all layers are smaller than the picture."""

WINDOW, COVERED = "window of layer 5", "object within the square that holds 90 %"
VARIATION = "variation in pixels over that in layer 5"


def objects(at: Subject) -> Iterator[Number]:
    """On large pictures: how much of the object projections of layer 5 cover, and how maps vary in pixels."""
    large = at.enlarged(LARGE)
    top, side = large.layers[-1], large.net.preparation.crop
    yield counted(WINDOW, receptive_field(large.net.spec, top).size / side, 1, "of the picture")
    yield measured(COVERED, coverage(large, top), "%", np.median)
    for layer in large.layers:
        yield measured(VARIATION, pose_variation(large, layer), "times", layer=layer)


def objects_with_pose(stored: Stored, covered: float) -> Finding:
    found = stored.numbers
    coverage, by_layer = found.one(COVERED), found.by("layer", VARIATION)
    numbers = {COVERED: coverage} | {f"{layer}: {VARIATION}": number for layer, number in by_layer.items()}
    if found.one(WINDOW).value >= 1:
        return Finding(UNTESTABLE, numbers, "Layer 5's window covers the picture.")
    note = (
        f"Convolutions at {LARGE} pixels. Distances within a map count in those between maps of the layer; "
        f"features are those of layer 5 at the middle of the patch."
    )
    return Finding(verdict(every([above(coverage, covered), rising(by_layer.values())])), numbers, note)


def coverage(at: Subject, layer: str) -> np.ndarray:
    """Return unit by unit the percentage of the object in the smallest square with 90 % of its projection."""
    shares = []
    for unit in at.units(layer):
        placed, x = at.pictures_of([unit])
        energy = energies(at, x, placed)[0].double().numpy()
        side, top, left = grouping.smallest_square(energy, SHARE)
        inside = at.objects([unit.image])[0]
        # NaN where no object is marked
        shares.append(float(inside[top : top + side, left : left + side].sum() / inside.sum()))
    return 100 * np.array(shares)


def pose_variation(at: Subject, layer: str) -> np.ndarray:
    """Return for half of the maps how their patches vary in pixels, over how they vary in layer 5.

    Patches are compared at a common size, and by what layer 5 answers where its field lies nearest to their middle.
    """
    pixels, features, units = [], [], at.units(layer)
    units = units[: max(at.scale.maps // 2, 2) * at.scale.units]
    top = at.layers[-1]
    own, field = receptive_field(at.net.spec, layer), receptive_field(at.net.spec, top)
    for part, trace in traces(at, units, top):
        for x, maps, unit in zip(trace.x, trace[top].maps, part, strict=True):
            box = own.box(unit.row, unit.column)
            patch = F.interpolate(cut(x, box)[None], (24, 24), mode="bilinear", antialias=True)
            pixels.append(patch.flatten().numpy())
            middles = ((box.top + box.bottom) / 2, (box.left + box.right) / 2)
            places = (round((middle - field.offset - field.size / 2) / field.stride) for middle in middles)
            row, column = (min(max(place, 0), side - 1) for place, side in zip(places, maps.shape[1:], strict=True))
            features.append(maps[:, row, column].numpy())
    maps = np.array([unit.map for unit in units])
    with np.errstate(divide="ignore"):  # patches that are one to layer 5 have no ratio
        return variation(np.stack(pixels), maps) / variation(np.stack(features), maps)


def variation(values: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Return the mean distance of each map's vectors [n, d], in the mean distance of vectors of different maps.

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
