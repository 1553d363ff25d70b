"""Fig. 2 in numbers: what the nine strongest units of a map have in common (section 4)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import product
from math import comb, log2
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.color import rgb2gray
from skimage.feature import hog
from skimage.transform import resize
from torch import Tensor
from torch.nn import functional as F

from ..architecture import Box
from ..datasets import Dataset, dataset_entry
from ..deconv import cut
from ..files import ZfnetError, results_root
from ..images import GREY, projection_image
from ..network import ConvNet, Network
from ..strongest import Block, Squares, blocks, patch, strongest
from .records import Record, Stopwatch, Table, is_fresh, read, store
from .setting import DATA, describe_pictures, network_of, profile_of, source_of
from .trainings import training_data
from .transfer import NetworkFeatures

SIDE, CELLS = 48, 4  # pixels to which pictures are resized to be compared, and side of the grid of their summary
CANDIDATES = 48  # maps of a layer among which the most alike are looked for
MAPS = {"smoke": 8, "tiny": 64, "paper": 64}  # of each layer that are compared

OBSERVER = {"smoke": "zfnet-tiny", "tiny": "alexnet-imagenet", "paper": "alexnet-imagenet"}
"""The independent network, whose features describe the content of patches."""

LIKE, MORE_THAN_RANDOM = "patches of a map, {}: mean cosine", "maps whose patches are more alike than random, {}"
EXCESS = "patches of a map above random ones, {}: mean cosine"
RANDOM, VARY = "random patches, {}: mean cosine", "maps whose patches vary more than their projections, {}"
ENTROPY, CHANCE = "entropy of the labels of the nine", "entropy of nine labels by chance"
FOUND, EXTENT = "projections that find their own patch", "side of the square that holds 90 % of a projection"


class Likeness(NamedTuple):
    """How alike the members of each group are, beside random groups of the same members."""

    within: NDArray  # [groups], the mean cosine of all pairs
    random: float  # the mean over random groups, none of whose members share a group
    level: float  # what 95 % of the random groups do not reach


def likeness(features: NDArray, seed: int = 0) -> Likeness:
    """Compare the members of groups, of one descriptor each [groups, k, d]; constant ones are like nothing."""
    groups, k, _ = features.shape
    size = np.linalg.norm(features, axis=2, keepdims=True)
    units = np.divide(features, size, out=np.zeros_like(features, dtype=float), where=size > 0)

    def mean_cosine(units: NDArray) -> NDArray:
        k = units.shape[1]  # of few groups, random ones have fewer members
        return ((units.sum(1) ** 2).sum(1) - (units**2).sum((1, 2))) / max(k * (k - 1), 1)

    rng = np.random.default_rng(seed)
    drawn = np.array([rng.permutation(groups)[:k] for _ in range(1000)])
    random = mean_cosine(units[drawn, rng.integers(0, k, drawn.shape)])
    return Likeness(mean_cosine(units), float(random.mean()), float(np.quantile(random, 0.95)))


def shape(picture: NDArray) -> NDArray:
    """Describe a picture [h, w, 3] by the directions of its edges in a grid of cells, whatever its contrast."""
    grey = resize(rgb2gray(picture), (SIDE, SIDE), anti_aliasing=True)
    cell = SIDE // CELLS
    return hog(grey, orientations=8, pixels_per_cell=(cell, cell), cells_per_block=(2, 2))


def colour(picture: NDArray) -> NDArray:
    """Describe a picture [h, w, 3] in [0, 1] by the mean colour of each cell of a grid; 0 is grey."""
    return resize(picture, (CELLS, CELLS, 3), anti_aliasing=True).ravel() - 0.5


def content(observer: ConvNet) -> Callable[[NDArray], NDArray]:
    """Return what describes a picture [h, w, 3] in [0, 1] by the last convolutional layer of a network."""
    features = NetworkFeatures("", observer, [observer.spec.convs[-1].name])

    def described(picture: NDArray) -> NDArray:
        (found,) = features([torch.from_numpy((255 * picture).round()).permute(2, 0, 1).byte()]).values()
        return found[0].numpy()

    return described


def entropy(labels: NDArray) -> NDArray:
    """Return the entropy of the labels of each group [groups, k], in bits."""
    shares = [np.unique(row, return_counts=True)[1] / len(row) for row in labels]
    return np.array([abs(-(share * np.log2(share)).sum()) for share in shares])


def entropy_by_chance(classes: int, k: int) -> float:
    """Return the mean entropy of k labels drawn evenly from so many classes, in bits."""
    p = 1 / classes
    chances = [comb(k, n) * p**n * (1 - p) ** (k - n) for n in range(k + 1)]
    return classes * sum(chances[n] * n / k * log2(k / n) for n in range(1, k + 1))


def edges(pictures: Tensor) -> Tensor:
    """Return where pictures [n, 3, h, w] have edges: gradient magnitudes, centred, of unit length, [n, d]."""
    grey = pictures.float().mean(1, keepdim=True)
    small = F.interpolate(grey, (SIDE, SIDE), mode="bilinear", antialias=True)
    sobel = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
    down, across = F.conv2d(small, torch.stack([sobel.T, sobel])[:, None]).unbind(1)
    magnitude = (down.square() + across.square()).sqrt().flatten(1)
    return F.normalize(magnitude - magnitude.mean(1, keepdim=True))


def finds(block: Block, others: Tensor) -> list[bool]:
    """Tell of each projection whether its edges follow its own patch more than the same place of any other."""
    found = []
    for projection, seen, box in zip(block.projections, block.patches, block.boxes, strict=True):
        own = torch.from_numpy(seen).permute(2, 0, 1)[None].float() - GREY
        candidates = edges(torch.cat([own, cut(others.float() - GREY, box)]))
        scores = candidates @ edges(torch.from_numpy(projection)[None])[0]
        found.append(bool(scores[1:].max() <= scores[0] + 1e-6))  # its own picture may be among the others
    return found


def extent(projection: NDArray, share: float = 0.9) -> int:
    """Return the side of the smallest square that holds a share of a projection's energy [3, s, s]."""
    return smallest_square((projection.astype(float) ** 2).sum(0), share)[0]


def smallest_square(energy: NDArray, share: float = 0.9) -> tuple[int, int, int]:
    """Return side, top and left of the smallest square that holds a share of energy [s, s]."""
    table = np.pad(energy, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    needed, size = share * energy.sum() * (1 - 1e-9), len(energy)
    for side in range(1, size + 1):
        held = table[side:, side:] - table[:-side, side:] - table[side:, :-side] + table[:-side, :-side]
        if held.max() >= needed:
            return side, *divmod(int(held.argmax()), held.shape[1])
    return size, 0, 0


def drawn_maps(top, maps: int, seed: int) -> list[int]:
    """Draw maps of a layer, with a draw of its own, among those that are active on k pictures."""
    if maps < 1:
        raise ZfnetError(f"{maps} maps of a layer cannot be drawn; choose at least 1")
    active = (top.score > 0).all(1).nonzero().flatten()
    generator = torch.Generator().manual_seed(crc32(f"{seed} {top.layer}".encode()))
    order = torch.randperm(len(active), generator=generator)
    return sorted(active[order[:maps]].tolist())


def alike_maps(net: Network, squares: Squares, top, maps: int, but: Collection[int], seed: int) -> list[int]:
    """Return, of up to 48 drawn maps but some, those whose patches are most alike in shape, the closest first."""
    others = [map_ for map_ in drawn_maps(top, CANDIDATES, seed) if map_ not in but]
    if not maps or not others:
        return []
    described = []
    for map_ in others:
        units = top.units(map_)
        x = squares[[unit.image for unit in units]]
        fields = net.fields(top.layer, *x.shape[-2:])
        pairs = zip(net.preparation.visible(x), units, strict=True)
        described.append([shape(patch(seen, Box.seen(fields, unit.row, unit.column))) for seen, unit in pairs])
    order = np.argsort(-likeness(np.array(described)).within, kind="stable")
    return [others[place] for place in order[:maps]]


def whole_data(name: str) -> Dataset:
    """Return all pictures of a data set, or those for validation where others were trained on."""
    return training_data(name, "all" if "all" in dataset_entry(name).splits else "val")


DESCRIPTORS = {"shape": shape, "colour": colour}


def groups(profile: str, live: bool = False) -> Table:
    """Return what the nine strongest units of each map have in common, stored; `live` and `smoke` compute it."""
    network = profile_of(profile).network
    path = results_root(profile) / "groups" / f"{network}--{DATA[profile]}.jsonl"
    if live or (profile == "smoke" and not is_fresh(path)):
        observer = network_of(profile, OBSERVER[profile])
        store(path, group_records(network_of(profile), network, DATA[profile], MAPS[profile], observer))
    if not path.exists():
        needed = f"{network}, {OBSERVER[profile]} and {DATA[profile]}"
        command = f"`zfnet run fig2 --profile {profile} --live`, with {needed} at hand"
        return Table({"command": "Not run"}, [{"command": command}])
    found, shown = read(path), {}
    for name in ("content", *DESCRIPTORS):
        shown |= {LIKE.format(name): f"Alike in {name}, cosine", RANDOM.format(name): "nine of different maps"}
    shown |= {VARY.format("shape"): "Patches vary more (shape), % of maps", ENTROPY: "Label entropy, bits"}
    shown |= {CHANCE: "by chance", FOUND: "Own patch found, %", EXTENT: "90 % of energy within, pixels"}
    rows = {quantity: {"quantity": words} for quantity, words in shown.items()}
    values = {(one.quantity, one.parameters["layer"], one.parameters["weights"]): one.value for one in found}
    layers = {layer: layer for _, layer, _ in values}
    for quantity, layer in product(rows, layers):
        digits = 1 if "%" in shown[quantity] else 2
        pair = (values[quantity, layer, weights] for weights in ("trained", "untrained"))
        rows[quantity][layer] = "{:z.{n}f} ({:z.{n}f})".format(*pair, n=digits)
    note = f"In brackets: the same network with random weights. {source_of(found)}"
    return Table({"quantity": "Quantity"} | layers, list(rows.values()), note)


def group_records(
    net: ConvNet, network: str, pictures: str, maps: int, observer: ConvNet, seed: int = 0
) -> Iterator[Record]:
    """Measure the nine strongest units of drawn maps of every layer, with trained weights and with random ones."""
    trained, dataset = net.features(), whole_data(pictures)
    untrained, data = ConvNet(trained.spec, trained.preparation, seed).eval(), describe_pictures(dataset)
    descriptors = {"content": content(observer)} | DESCRIPTORS
    # A hundred pictures among whose patches a projection's own one is looked for.
    hundred = np.linspace(0, len(dataset) - 1, 100).round().astype(int).tolist()
    for weights, net in (("trained", trained), ("untrained", untrained)):
        watch, squares = Stopwatch(), Squares(net, dataset)
        seen = net.preparation.visible(squares[hundred])
        for layer, top in strongest(net, dataset).items():
            chosen = list(blocks(net, squares, top, drawn_maps(top, maps, seed)))
            full = top.image[(top.image >= 0).all(1) & (top.score > 0).all(1)].numpy()
            shown = [[projection_image(one) for one in block.projections] for block in chosen]
            measured = []
            for name, describe in descriptors.items():
                patches, projections = (
                    likeness(np.array([[describe(one / 255) for one in group] for group in each]), seed)
                    for each in ([block.patches for block in chosen], shown)
                )
                measured += [
                    (LIKE.format(name), patches.within, "cosine"),
                    (RANDOM.format(name), patches.random, "cosine"),
                    (EXCESS.format(name), patches.within - patches.random, "cosine"),
                    (MORE_THAN_RANDOM.format(name), 100 * (patches.within > patches.level), "% of maps"),
                    (VARY.format(name), 100 * (patches.within < projections.within), "% of maps"),
                ]
            measured += [
                (ENTROPY, entropy(dataset.labels[full]), "bits"),
                (CHANCE, entropy_by_chance(len(dataset.classes), top.image.shape[1]), "bits"),
                # of maps: the units of one are alike
                (FOUND, [100 * np.mean(finds(block, seen)) for block in chosen], "%"),
                (EXTENT, [np.mean([extent(one) for one in block.projections]) for block in chosen], "pixels"),
            ]
            for quantity, values, unit in measured:
                values, made = np.asarray(values, float), watch.provenance(seed)
                spread = float(values.std(ddof=1)) if values.size > 1 else None
                of, mean = {"layer": layer, "weights": weights}, float(values.mean())
                yield Record("groups", quantity, mean, unit, made, values.size, spread, None, of, network, data)
