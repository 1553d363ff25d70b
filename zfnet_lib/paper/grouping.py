"""What the strongest units of one map have in common (section 4, Fig. 2), in numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log2
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.color import rgb2gray
from skimage.feature import hog
from skimage.transform import resize
from torch import Tensor
from torch.nn import functional as F

from ..architecture import Box
from ..datasets import Dataset
from ..deconv import cut
from ..files import results_root
from ..images import GREY, projection_image
from ..network import ConvNet
from ..strongest import Block, Squares, TopUnits, blocks, strongest
from .fig2 import drawn_maps, whole_data
from .records import Record, Stopwatch, is_fresh, read, store
from .setting import DATA, describe_pictures, network_of, profile_of, source_of
from .tables import Table

SIDE = 48
"""Pixels to which pictures are resized before they are compared."""

CELLS = 4
"""Side of the grid over which shape and colour are summed up."""

GROUPS = 1000
"""Random groups that a map is compared with."""

SOBEL = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])


class Likeness(NamedTuple):
    """How alike the members of each group are, beside random groups of the same members.

    Attributes:
        within: [groups], the mean cosine of all pairs.
        random: The mean over random groups, none of whose members share a group.
        level: What 95 % of the random groups do not reach.
    """

    within: NDArray
    random: float
    level: float

    @property
    def above(self) -> float:
        """The share of groups above the level, in percent; 5 by chance."""
        return 100 * float((self.within > self.level).mean())


def likeness(features: NDArray, seed: int = 0) -> Likeness:
    """Compare the members of groups with one another.

    Args:
        features: [groups, k, d], one descriptor each; constant ones are like nothing.
        seed: Of the random groups.

    Example:
        >>> alike = np.repeat(np.eye(6)[:, None], 3, axis=1)
        >>> found = likeness(alike)
        >>> found.within.tolist(), found.random, found.above
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 0.0, 100.0)
    """
    groups, k, _ = features.shape
    size = np.linalg.norm(features, axis=2, keepdims=True)
    units = np.divide(features, size, out=np.zeros_like(features, dtype=float), where=size > 0)
    rng = np.random.default_rng(seed)
    drawn = np.array([rng.permutation(groups)[:k] for _ in range(GROUPS)])
    random = _pairwise(units[drawn, rng.integers(0, k, drawn.shape)])
    return Likeness(_pairwise(units), float(random.mean()), float(np.quantile(random, 0.95)))


def _pairwise(units: NDArray) -> NDArray:
    """Return the mean cosine of all pairs of each group of unit vectors [groups, k, d]."""
    k = units.shape[1]
    return ((units.sum(1) ** 2).sum(1) - (units**2).sum((1, 2))) / (k * (k - 1))


def shape(picture: NDArray) -> NDArray:
    """Describe a picture [h, w, 3] by the directions of its edges in a grid of cells, whatever its contrast."""
    grey = resize(rgb2gray(picture), (SIDE, SIDE), anti_aliasing=True)
    cell = (SIDE // CELLS, SIDE // CELLS)
    return hog(grey, orientations=8, pixels_per_cell=cell, cells_per_block=(2, 2))


def colour(picture: NDArray) -> NDArray:
    """Describe a picture [h, w, 3] in [0, 1] by the mean colour of each cell of a grid; 0 is grey."""
    return resize(picture, (CELLS, CELLS, 3), anti_aliasing=True).ravel() - 0.5


def entropy(labels: NDArray) -> NDArray:
    """Return the entropy of the labels of each group [groups, k], in bits.

    Example:
        >>> entropy(np.array([[1, 1, 1, 1], [1, 1, 2, 2], [1, 2, 3, 4]])).tolist()
        [0.0, 1.0, 2.0]
    """
    shares = [np.unique(row, return_counts=True)[1] / len(row) for row in labels]
    return np.array([abs(-(share * np.log2(share)).sum()) for share in shares])


def entropy_by_chance(classes: int, k: int) -> float:
    """Return the mean entropy of k labels drawn evenly from so many classes, in bits.

    A class is drawn n times with the binomial probability, and adds -n/k log2(n/k).

    Example:
        >>> entropy_by_chance(2, 2)
        0.5
    """
    chance, p = 0.0, 1 / classes
    binomial = (1 - p) ** k
    for n in range(1, k + 1):
        binomial *= (k - n + 1) / n * p / (1 - p) if p < 1 else float(n == k)
        chance -= binomial * n / k * log2(n / k)
    return classes * chance


def edges(pictures: Tensor) -> Tensor:
    """Return where pictures [n, 3, h, w] have edges: gradient magnitudes, centred, of unit length, [n, d]."""
    grey = pictures.float().mean(1, keepdim=True)
    small = F.interpolate(grey, (SIDE, SIDE), mode="bilinear", antialias=True)
    down, across = F.conv2d(small, torch.stack([SOBEL.T, SOBEL])[:, None]).unbind(1)
    magnitude = (down.square() + across.square()).sqrt().flatten(1)
    return F.normalize(magnitude - magnitude.mean(1, keepdim=True))


def extent(projection: NDArray, share: float = 0.9) -> int:
    """Return the side of the smallest square that holds a share of a projection's energy.

    Args:
        projection: [3, s, s].
        share: Of the sum of squares.

    Example:
        >>> pixels = np.zeros((3, 9, 9))
        >>> pixels[:, 2:5, 3:5] = 1
        >>> extent(pixels), extent(np.ones((3, 10, 10)), 0.25)
        (3, 5)
    """
    return smallest_square((projection.astype(float) ** 2).sum(0), share)[0]


def smallest_square(energy: NDArray, share: float = 0.9) -> tuple[int, int, int]:
    """Return side, top and left of the smallest square that holds a share of energy [s, s].

    Example:
        >>> energy = np.zeros((9, 9))
        >>> energy[2:5, 3:5] = 1
        >>> smallest_square(energy)
        (3, 2, 2)
    """
    table = np.pad(energy, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    needed, size = share * energy.sum() * (1 - 1e-9), len(energy)
    for side in range(1, size + 1):
        held = table[side:, side:] - table[:-side, side:] - table[side:, :-side] + table[:-side, :-side]
        if held.max() >= needed:
            top, left = divmod(int(held.argmax()), held.shape[1])
            return side, top, left
    return size, 0, 0


# Fig. 2 in numbers: what the strongest units of a map have in common, over a whole data set.

OTHERS = 100
"""Pictures among whose patches a projection's own one is looked for."""

MAPS = {"smoke": 8, "tiny": 64, "paper": 64}
"""Maps of each layer that are compared."""

DESCRIPTORS = {"shape": shape, "colour": colour}

LIKE, MORE_THAN_RANDOM = "patches of a map, {}: mean cosine", "maps whose patches are more alike than random, {}"
RANDOM, VARY = "random patches, {}: mean cosine", "maps whose patches vary more than their projections, {}"
ENTROPY, CHANCE = "entropy of the labels of the nine", "entropy of nine labels by chance"
FOUND, EXTENT = "projections that find their own patch", "side of the square that holds 90 % of a projection"

TITLES = {
    LIKE.format("shape"): "Alike in shape",
    RANDOM.format("shape"): "random nine",
    LIKE.format("colour"): "Alike in colour",
    RANDOM.format("colour"): "random nine ",
    VARY.format("shape"): "Patches vary more (shape), % of maps",
    ENTROPY: "Label entropy, bits",
    CHANCE: "by chance",
    FOUND: "Own patch found, %",
    EXTENT: "90 % of energy within, pixels",
}
"""The columns of the table."""


def groups(profile: str, live: bool = False) -> Table:
    """Return what the nine strongest units of each map have in common, trained and untrained (section 4).

    Args:
        profile: `smoke`, `tiny` or `paper`.
        live: Compute and store it, as `smoke` always does; else what is stored, or the command that computes it.
    """
    network = profile_of(profile).network
    path = results_root(profile) / "groups" / f"{network}--{DATA[profile]}.jsonl"
    if live or (profile == "smoke" and not is_fresh(path)):
        store(path, group_records(network_of(profile), network, DATA[profile], MAPS[profile]))
    if not path.exists():
        command = f"`zfnet run fig2 --profile {profile} --live`, with {network} and {DATA[profile]} at hand"
        return Table({"command": "Not run"}, [{"command": command}])
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    found = read(path)
    for record in found:
        place = record.parameters["layer"], record.parameters["weights"]
        row = rows.setdefault(place, {"layer": place[0], "weights": place[1]})
        row[record.quantity] = round(record.value, 2)
    columns = {"layer": "Layer", "weights": "Weights"} | TITLES
    return Table(columns, list(rows.values()), str(source_of(found)))


def group_records(net: ConvNet, network: str, pictures: str, maps: int, seed: int = 0) -> Iterator[Record]:
    """Measure the nine strongest units of maps of every layer, with trained weights and with random ones.

    Args:
        net: A trained network.
        network: Its name.
        pictures: A data set with one label a picture.
        maps: How many of each layer, drawn with `seed`; labels are counted for all.
        seed: Of the draws, and of the random weights.
    """
    trained, dataset = net.features(), whole_data(pictures)
    untrained = ConvNet(trained.spec, trained.preparation, seed).eval()
    for weights, net in (("trained", trained), ("untrained", untrained)):
        watch, squares = Stopwatch(), Squares(net, dataset)
        others = squares[np.linspace(0, len(dataset) - 1, OTHERS).round().astype(int).tolist()]
        for hits in strongest(net, dataset).values():
            for quantity, values, unit in _measured(net, dataset, squares, others, hits, maps, seed):
                values = np.asarray(values, float)
                yield Record(
                    "groups",
                    quantity,
                    float(values.mean()),
                    unit,
                    watch.provenance(seed),
                    n=values.size,
                    spread=float(values.std(ddof=1)) if values.size > 1 else None,
                    parameters={"layer": hits.layer, "weights": weights},
                    spec=network,
                    data=describe_pictures(dataset),
                )


Measured = Iterator[tuple[str, Any, str]]


def _measured(
    net: ConvNet, dataset: Dataset, squares: Squares, others: torch.Tensor, hits: TopUnits, maps: int, seed: int
) -> Measured:
    """Yield quantity, values and unit of one layer."""
    chosen = list(blocks(net, squares, hits, drawn_maps(hits, maps, seed)))
    for name, describe in DESCRIPTORS.items():
        patches = _compared([block.patches for block in chosen], describe, seed)
        shown = [[projection_image(one) for one in block.projections] for block in chosen]
        projections = _compared(shown, describe, seed)
        yield LIKE.format(name), patches.within, "cosine"
        yield RANDOM.format(name), patches.random, "cosine"
        yield MORE_THAN_RANDOM.format(name), 100 * (patches.within > patches.level), "% of maps"
        yield VARY.format(name), 100 * (patches.within < projections.within), "% of maps"
    full = hits.image[(hits.image >= 0).all(1) & (hits.score > 0).all(1)].numpy()
    yield ENTROPY, entropy(dataset.labels[full]), "bits"
    yield CHANCE, entropy_by_chance(len(dataset.classes), hits.image.shape[1]), "bits"
    seen = net.preparation.visible(others)
    yield FOUND, [100 * found for block in chosen for found in _finds(block, seen)], "%"
    yield EXTENT, [extent(one) for block in chosen for one in block.projections], "pixels"


def _compared(groups: Sequence[Sequence[NDArray]], describe, seed: int) -> Likeness:
    """Compare the pictures of each group, uint8 [s, s, 3]."""
    return likeness(np.array([[describe(one / 255) for one in group] for group in groups]), seed)


def _finds(block: Block, others: torch.Tensor) -> Iterator[bool]:
    """Tell of each projection whether its edges follow its own patch more than the same place of any other."""
    for projection, patch, box in zip(block.projections, block.patches, block.boxes, strict=True):
        own = torch.from_numpy(patch).permute(2, 0, 1)[None].float() - GREY
        candidates = edges(torch.cat([own, cut(others.float() - GREY, Box(*box))]))
        scores = candidates @ edges(torch.from_numpy(projection)[None])[0]
        yield bool(scores[1:].max() <= scores[0] + 1e-6)  # its own picture may be among the others
