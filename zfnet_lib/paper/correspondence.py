"""Does occluding one part change all pictures alike? (After the arXiv version of the paper, as recalled.)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from textwrap import fill
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..datasets import Dataset, MissingDataError, open_dataset
from ..files import ZfnetError
from ..images import Preparation
from ..network import ConvNet
from ..strongest import rows_first
from . import plots
from .records import Sentence, Stopwatch, Table, mean_and_spread
from .setting import Setting, Source, network_of, profile_of, progress

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


class Correspondence(NamedTuple):
    """How alike the changes of different pictures are when a part is occluded; arrays [layers, parts, groups]."""

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
    """Occlude eyes, nose or a random place in faces and compare the changes (the arXiv version, as recalled)."""
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

    table, sentences, true = [], [], [part not in (RANDOM, SAME) for part in found.parts]
    for level, layer in enumerate(found.layers):
        delta, relative = found.delta[level], found.relative[level]
        for place, part in enumerate(found.parts):
            own, divided = (mean_and_spread(values[place].tolist(), 3) for values in (delta, relative))
            row = {"layer": layer, "part": part, "delta": own, "relative": divided}
            row["changed"] = round(100 * float(found.changed[level, place].mean()), 1)
            table.append(row | {"paper": RECALLED.get(part, ("", ""))[int(layer.startswith("fc"))]})
        # The three parts of a group share its random place: they are one comparison.
        below, by_chance, controlled = (
            int((values[true].mean(0) < values[found.parts.index(other)]).sum())
            for values, other in ((delta, RANDOM), (relative, RANDOM), (relative, SAME))
        )
        sentences.append(
            f"In {layer} the mean Δ of true parts is below that of a random place in {below} of {delta.shape[1]} "
            f"groups, and in {by_chance} when each is divided by what chance gives; then it is "
            f"below one random place for all in {controlled}."
        )
    columns = {"layer": "Layer", "part": "Hidden", "delta": "Δ", "relative": "Δ / Δ by chance"}
    columns |= {"changed": "Changed, %", "paper": "Δ in the arXiv version, dogs (recalled)"}
    return Parts(found, net, x, masks, shown, Table(columns, table), Sentence(" ".join(sentences)), source)


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
    for number, rows in enumerate(progress(torch.arange(len(x)).split(group), "groups")):
        seen = features(x[rows])
        for place, mask in enumerate(masks.values()):
            for level, hidden in enumerate(features(masked(x[rows], mask[rows]))):
                result[:, level, place, number] = _compared(seen[level] - hidden)
    return Correspondence(layers, tuple(masks), *result)


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """Occlude a part of prepared pictures [n, 3, H, W] by the mean, where the mask [n, H, W] is true."""
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


def faces(net: ConvNet, pictures: str, groups: int, seed: int) -> tuple[Dataset, list[int], dict[str, np.ndarray]]:
    """Open a data set; return it, faces in it, and by part row and column of its centre in each face [n, 2].

    Centres are shares of the centre square. Pictures of a group lie far apart: neighbours often show one person.
    """
    if pictures not in ("caltech-101", "shapes"):
        raise ZfnetError(f"the parts of {pictures!r} are not known; choose caltech-101 (Faces_easy) or shapes")
    # Drawings come at the network's own size: enlarged ones would have no fine structure.
    easy = pictures == "caltech-101"
    options = {"split": "all"} if easy else {"split": "val", "size": net.preparation.short_side}
    dataset = open_dataset(pictures, **options)
    rows = np.flatnonzero(dataset.labels == dataset.classes.index("Faces easy" if easy else "face"))
    most = len(rows) // GROUP
    if not 1 <= groups <= most:
        raise ZfnetError(f"{len(rows)} faces of {pictures} make 1 to {most} groups of {GROUP}, not {groups}")
    chosen = rows[: GROUP * most].reshape(GROUP, most).T[:groups].ravel().tolist()
    rng = np.random.default_rng(seed)
    if easy:
        heads = rng.uniform(*EASY_HEAD, (len(chosen), 2))
        places = {part: [place] * len(chosen) for part, place in EASY_FACE.items()}
    else:
        heads, places = [], {part: [] for part in ("left eye", "right eye", "mouth")}
        for face in (dataset.objects(row)[0] for row in chosen):
            masks = (face.parts["eyes"], face.parts["mouth"], face.mask)
            eyes, mouth, head = (np.argwhere(mask.numpy()) + 0.5 for mask in masks)  # the middles of their pixels
            left = eyes[:, 1] < eyes[:, 1].mean()
            for part, pixels in zip(places, (eyes[left], eyes[~left], mouth), strict=True):
                places[part].append(pixels.mean(0) / dataset.size)
            heads.append(head[rng.integers(len(head))] / dataset.size)
    places |= {RANDOM: heads, SAME: np.repeat(heads[::GROUP], GROUP, axis=0)}
    return dataset, chosen, {part: np.array(each) for part, each in places.items()}


def squares(centres: np.ndarray, preparation: Preparation) -> Tensor:
    """Return masks [n, crop, crop] of squares around places of the view; near the edge they move inside."""
    crop, width = preparation.crop, round(SIDE * preparation.short_side)
    margin = (preparation.short_side - crop) // 2
    first = np.rint(np.asarray(centres) * preparation.short_side - margin - width / 2).clip(0, crop - width)
    inside = torch.arange(crop) - torch.from_numpy(first)[..., None]
    rows, columns = ((inside >= 0) & (inside < width)).unbind(1)
    return rows[:, :, None] & columns[:, None, :]


def draw(found: Correspondence) -> plots.Figure:
    """Draw Delta of every group, and its mean, for each part; beside it Delta divided by what chance gives."""
    controls = {RANDOM: (plots.VERMILION, "s"), SAME: (plots.ORANGE, "^")}  # the parts are blue dots
    figure = plots.Figure(0.3 + 2.5 * len(found.layers))
    panels = figure.subplots(len(found.layers), 2, squeeze=False)
    for layer, line, *both in zip(found.layers, panels, found.delta, found.relative, strict=True):
        for axes, values, title in zip(line, both, (f"{layer}: Δ", f"{layer}: Δ / Δ by chance"), strict=True):
            for place, (part, own) in enumerate(zip(found.parts, values, strict=True)):
                colour, marker = controls.get(part, (plots.BLUE, "o"))
                beside = place + np.linspace(-0.22, 0.22, len(own)) if len(own) > 1 else [place]
                axes.plot(beside, own, marker, color=colour, markersize=3.5, alpha=0.7, markeredgewidth=0)
                axes.hlines(own.mean(), place - 0.34, place + 0.34, color=colour, linewidth=2)
            names = [part.replace(" ", "\n") if len(part) < 13 else fill(part, 10) for part in found.parts]
            axes.set_xticks(range(len(names)), names)
            plots.plain(axes, title)
    figure.tight_layout()
    return figure
