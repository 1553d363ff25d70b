"""Does hiding one part change all pictures alike? (After the arXiv version of the paper, as recalled.)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import product
from textwrap import fill
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..datasets import Dataset, MissingDataError, open_dataset
from ..datasets.shapes import Shapes
from ..files import ZfnetError
from ..images import Preparation
from ..network import ConvNet
from ..strongest import rows_first
from .plots import BLUE, ORANGE, VERMILION, Figure, plain
from .records import Sentence, Stopwatch, Table
from .setting import Setting, Source, network_of, profile_of

GROUP = 5
"""Pictures that are compared with one another; the paper's number."""
SIDE = 0.16
"""Side of a mask, as a share of the picture's square: it covers an eye of an aligned face."""
EASY_FACE = {"left eye": (0.455, 0.38), "right eye": (0.455, 0.63), "nose": (0.6, 0.51)}
EASY_HEAD = (0.12, 0.24), (0.9, 0.8)
"""Where the parts lie in Caltech-101's `Faces_easy`, and the first and last row and column of the head: shares of
the centre square, measured on the mean of its aligned faces. Left and right are the viewer's."""
RANDOM, SAME = "random place", "one random place for all"

RECALLED = {
    "left eye": ("0.069 ± 0.007", "0.068 ± 0.013"),
    "right eye": ("0.067 ± 0.007", "0.069 ± 0.015"),
    "nose": ("0.079 ± 0.017", "0.069 ± 0.011"),
    RANDOM: ("0.107 ± 0.017", "0.073 ± 0.014"),
}
"""The arXiv version's table for layers 5 and 7, dogs, as it is remembered."""

Places = dict[str, np.ndarray]
"""By part: row and column of its centre in each picture, [n, 2], as shares of the picture's centre square."""


class Correspondence(NamedTuple):
    """How alike the changes are that hiding a part makes in different pictures; arrays [layers, parts, groups]."""

    layers: tuple[str, ...]  # from the picture upwards
    parts: tuple[str, ...]
    delta: np.ndarray  # mean over pairs of the share of features whose changes differ in sign; 0: full consistency
    chance: np.ndarray  # the same for signs that are as frequent but fall anywhere
    changed: np.ndarray  # mean share of the features that change at all

    @property
    def relative(self) -> np.ndarray:
        """Delta as a share of what chance gives; 1 where nothing changed."""
        return np.divide(self.delta, self.chance, out=np.ones_like(self.delta), where=self.chance > 0)


class Parts(NamedTuple):
    """How consistently a network treats the parts of faces."""

    found: Correspondence
    net: ConvNet
    x: Tensor  # the prepared pictures
    masks: dict[str, Tensor]  # by part: what of them is hidden
    shown: list[list[np.ndarray]]  # each picture of the first group as it is, then with each part hidden
    table: Table
    verdict: Sentence
    source: Source


def measure(profile: str, pictures: str = "", network: str = "", groups: int = 12, seed: int = 0) -> Parts:
    """Hide eyes, nose or a random place in faces and compare the changes (after the arXiv version, as recalled)."""
    watch, net = Stopwatch(), network_of(profile, network)
    if not pictures:
        pictures = "shapes"
        with suppress(MissingDataError):
            if profile_of(profile).name != "smoke":
                pictures = open_dataset("caltech-101", "all").name
    dataset, rows, places = faces(net, pictures, groups, seed)
    x = net.prepare([dataset[row].picture for row in rows])
    masks = {part: squares(centres, net.preparation) for part, centres in places.items()}
    found = correspondence(net, x, masks)
    first = [x[:GROUP], *(masked(x[:GROUP], mask[:GROUP]) for mask in masks.values())]
    looks = zip(*(net.preparation.visible(one) for one in first), strict=True)
    shown = [[rows_first(picture) for picture in row] for row in looks]
    source = Setting(network or profile_of(profile).network, net, dataset, watch).source(seed)
    return Parts(found, net, x, masks, shown, _table(found), _verdict(found), source)


@torch.no_grad()
def correspondence(
    net: ConvNet, x: Tensor, masks: Mapping[str, Tensor], layers: Sequence[str] = (), group: int = GROUP
) -> Correspondence:
    """Occlude a part of prepared pictures and compare how the features change in the pictures of a group.

    Masks are bool [n, H, W]. By default the highest convolutional and fully connected layers are compared.
    """
    # With x_i the rectified maps of a layer and x~_i those of the occluded picture, e_i = x_i - x~_i; Delta is the
    # mean of H(sign e_i, sign e_j) over i != j; H is the Hamming distance divided by the number of features.
    if group < 2 or not len(x) or len(x) % group:
        raise ZfnetError(f"pictures are compared in groups of at least 2: {len(x)} make none of {group}")
    wanted = [len(x), *x.shape[2:]]
    for part, mask in masks.items():
        if list(mask.shape) != wanted or mask.dtype != torch.bool:
            given = f"{str(mask.dtype)[6:]} {list(mask.shape)}"
            raise ZfnetError(f"the mask {part!r} is bool {wanted}; given {given}")
    layers = tuple(layers) or tuple(each[-1].name for each in (net.spec.convs, net.spec.dense) if each)
    highest = max(map(net.layers_upto, layers), key=len)[-1].name

    def features(x: Tensor) -> list[Tensor]:
        trace = net.trace(x.to(net.device), upto=highest)
        return [trace[layer].maps.flatten(1).cpu() for layer in layers]  # Apple's GPUs lack float64

    result = np.empty((3, len(layers), len(masks), len(x) // group))
    for number, rows in enumerate(torch.arange(len(x)).split(group)):
        seen = features(x[rows])
        for place, mask in enumerate(masks.values()):
            for level, hidden in enumerate(features(masked(x[rows], mask[rows]))):
                result[:, level, place, number] = _compared(seen[level] - hidden)
    return Correspondence(layers, tuple(masks), *result)


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """Hide a part of prepared pictures [n, 3, H, W] by the mean, where the mask [n, H, W] is true."""
    return x.masked_fill(mask[:, None].to(x.device), 0)


def _compared(change: Tensor) -> tuple[float, float, float]:
    """Return of [n, features] the mean distance of two rows' signs, that by chance, and the share of changes."""
    # Changes below a millionth of the largest are rounding.
    signs = torch.where(change.abs() > 1e-6 * change.abs().max(), change.sign(), 0)
    others = ~torch.eye(len(signs), dtype=torch.bool)
    distances = (signs[:, None] != signs[None]).double().mean(-1)
    shares = torch.stack([(signs == sign).double().mean(-1) for sign in (-1, 0, 1)])
    by_chance = 1 - shares.T @ shares
    return distances[others].mean().item(), by_chance[others].mean().item(), (signs != 0).double().mean().item()


def faces(net: ConvNet, pictures: str, groups: int, seed: int) -> tuple[Dataset, list[int], Places]:
    """Open a data set and find faces in it, the pictures of a group far apart: neighbours often show one person."""
    if pictures not in ("caltech-101", "shapes"):
        raise ZfnetError(f"the parts of {pictures!r} are not known; choose caltech-101 (Faces_easy) or shapes")
    easy = pictures == "caltech-101"
    # Drawn at the network's own size: enlarged drawings would have no fine structure.
    options = {"split": "all"} if easy else {"split": "val", "size": net.preparation.short_side}
    dataset = open_dataset(pictures, **options)
    rows = np.flatnonzero(dataset.labels == dataset.classes.index("Faces easy" if easy else "face"))
    most = len(rows) // GROUP
    if not 1 <= groups <= most:
        raise ZfnetError(f"{len(rows)} faces of {pictures} make 1 to {most} groups of {GROUP}, not {groups}")
    chosen = rows[: GROUP * most].reshape(GROUP, most).T[:groups].ravel().tolist()
    places = easy_face_places(len(chosen), seed) if easy else drawn_face_places(dataset, chosen, seed)
    return dataset, chosen, places


def easy_face_places(n: int, seed: int = 0) -> Places:
    """Return the parts of n aligned faces, and random places on their heads."""
    heads = np.random.default_rng(seed).uniform(*EASY_HEAD, (n, 2))
    return {part: np.tile(place, (n, 1)) for part, place in EASY_FACE.items()} | _random_places(heads)


def drawn_face_places(shapes: Shapes, rows: Sequence[int], seed: int = 0) -> Places:
    """Return the eyes and the mouth of drawn faces, and random places on their heads."""
    rng = np.random.default_rng(seed)
    found = {part: [] for part in ("left eye", "right eye", "mouth")}
    heads = []
    for row in rows:
        shown = shapes.objects(row)[0]
        masks = (shown.parts.get("eyes"), shown.parts.get("mouth"), shown.mask)
        if not all(mask is not None and mask.any() for mask in masks):
            raise ZfnetError(f"{shapes.names[row]} shows no face with eyes and mouth; choose others")
        eyes, mouth, head = (np.argwhere(mask.numpy()) + 0.5 for mask in masks)  # the middles of their pixels
        left = eyes[:, 1] < eyes[:, 1].mean()
        for part, pixels in zip(found, (eyes[left], eyes[~left], mouth), strict=True):
            found[part].append(pixels.mean(0) / shapes.size)
        heads.append(head[rng.integers(len(head))] / shapes.size)
    return {part: np.array(places) for part, places in found.items()} | _random_places(np.array(heads))


def _random_places(heads: np.ndarray) -> Places:
    """Return another random place in each picture, and one for all pictures of a group."""
    return {RANDOM: heads, SAME: np.repeat(heads[::GROUP], GROUP, axis=0)[: len(heads)]}


def squares(centres: np.ndarray, preparation: Preparation) -> Tensor:
    """Return masks [n, crop, crop] of squares around places of the view; near the edge they move inside."""
    crop, width = preparation.crop, round(SIDE * preparation.short_side)
    margin = (preparation.short_side - crop) // 2
    first = np.rint(np.asarray(centres) * preparation.short_side - margin - width / 2).clip(0, crop - width)
    inside = torch.arange(crop) - torch.from_numpy(first)[..., None]
    rows, columns = ((inside >= 0) & (inside < width)).unbind(1)
    return rows[:, :, None] & columns[:, None, :]


def _table(found: Correspondence) -> Table:
    def spread(values: np.ndarray) -> str:
        return f"{values.mean():.3f}" + (f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else "")

    rows = []
    for (i, layer), (j, part) in product(enumerate(found.layers), enumerate(found.parts)):
        row = {"layer": layer, "part": part, "delta": spread(found.delta[i, j])}
        row["relative"] = spread(found.relative[i, j])
        row["changed"] = round(100 * float(found.changed[i, j].mean()), 1)
        rows.append(row | {"paper": RECALLED.get(part, ("", ""))[int(layer.startswith("fc"))]})
    columns = {"layer": "Layer", "part": "Hidden", "delta": "Δ", "relative": "Δ / Δ by chance"}
    columns |= {"changed": "Changed, %", "paper": "Δ in the arXiv version, dogs (recalled)"}
    return Table(columns, rows)


def _verdict(found: Correspondence) -> Sentence:
    """Count the groups in which the parts are treated more consistently than random places."""
    parts, sentences = [part not in (RANDOM, SAME) for part in found.parts], []
    for layer, delta, relative in zip(found.layers, found.delta, found.relative, strict=True):
        below, by_chance, controlled = (
            int((values[parts] < values[found.parts.index(other)]).sum())
            for values, other in ((delta, RANDOM), (relative, RANDOM), (relative, SAME))
        )
        sentences.append(
            f"In {layer} Δ of a true part is below that of a random place in {below} of {delta[parts].size} "
            f"comparisons, and in {by_chance} when each is divided by what chance gives; then it is "
            f"below one random place for all in {controlled}."
        )
    return Sentence(" ".join(sentences))


CONTROLS = {RANDOM: (VERMILION, "s"), SAME: (ORANGE, "^")}
"""How the controls are drawn; the parts are blue dots."""


def draw(found: Correspondence) -> Figure:
    """Draw Delta of every group, and its mean, for each part; beside it Delta divided by what chance gives."""
    figure = Figure(0.3 + 2.5 * len(found.layers))
    panels = figure.subplots(len(found.layers), 2, squeeze=False)
    for layer, line, *both in zip(found.layers, panels, found.delta, found.relative, strict=True):
        for axes, values, title in zip(line, both, (f"{layer}: Δ", f"{layer}: Δ / Δ by chance"), strict=True):
            for place, (part, own) in enumerate(zip(found.parts, values, strict=True)):
                colour, marker = CONTROLS.get(part, (BLUE, "o"))
                beside = place + np.linspace(-0.22, 0.22, len(own)) if len(own) > 1 else [place]
                axes.plot(beside, own, marker, color=colour, markersize=3.5, alpha=0.7, markeredgewidth=0)
                axes.hlines(own.mean(), place - 0.34, place + 0.34, color=colour, linewidth=2)
            axes.set_xticks(range(len(found.parts)), [fill(part, 10) for part in found.parts])
            plain(axes, title)
    figure.tight_layout()
    return figure
