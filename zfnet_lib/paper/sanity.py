"""How far projections can be trusted: what is left of them with other weights, switches or rules on the way down.

The paper shows its projections and takes them at their word. Later work asked what such pictures owe to what the
network has learnt, and what any network would have copied from the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from skimage.filters import sobel
from skimage.metrics import structural_similarity
from torch import Tensor

from ..architecture import Unit, input_window
from ..deconv import cut, project
from ..files import ZfnetError
from ..images import projection_image
from ..network import ConvNet
from .invariance import spread
from .plots import BLUE, GREEN, GREY, NORMAL, SMALL, VERMILION, Figure, picture_grid
from .setting import Source, opened
from .tables import Note, Table

GRADIENT = "exact gradient"
WAYS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "deconvnet": {},
        "central switches": {"switches": "centre"},
        "random switches": {"switches": "random"},
        "forward mask": {"rectify": "mask"},
        "guided": {"rectify": "both"},
    }
)
"""Ways from a unit to the pixels, as arguments of `project`: the paper's; without its switches; with the forward
mask of its footnote 1 instead of the rectification; and with both (guided backpropagation)."""

BATCH = 8
OPEN = 1e9
"""A bias above every response."""
SHARE = 99.0
"""Percent of a projection's absolute values below which it counts as full contrast, in `Similarity.ssim`."""


class SanityError(ZfnetError, ValueError):
    """Units, layers or ways that cannot be put to the test."""


class Similarity(NamedTuple):
    """How alike two projections are; 0 where one of them is zero everywhere.

    Attributes:
        spearman: Rank correlation of the absolute values, [-1, 1]: where there is something.
        cosine: Of the signed values, [-1, 1]: which structure it is.
        ssim: Structural similarity, each projection at its own contrast, [-1, 1].
    """

    spearman: float
    cosine: float
    ssim: float


def strongest_units(net: ConvNet, x: Tensor, layer: str, count: int) -> list[Unit]:
    """Return the strongest unit of each picture's `count` strongest maps, picture by picture.

    Pictures that excite fewer maps of the layer are passed over.

    Raises:
        SanityError: No picture excites so many maps.
        SpecError: No such layer, or one without maps.
    """
    with torch.no_grad():
        maps = net.trace(x, upto=net.spec.conv(layer).name)[layer].maps
    units, peaks = [], maps.amax((2, 3))
    most = int((peaks > 0).sum(1).max())
    if not 1 <= count <= most:
        raise SanityError(f"no picture excites {count} maps of {layer}; choose a number from 1 to {most}")
    for image in ((peaks > 0).sum(1) >= count).nonzero().flatten().tolist():
        for map_ in peaks[image].argsort(descending=True, stable=True)[:count].tolist():
            row, column = divmod(int(maps[image, map_].argmax()), maps.shape[3])
            units.append(Unit(image, layer, map_, row, column))
    return units


def rivals(net: ConvNet, x: Tensor, units: Sequence[Unit]) -> list[Unit]:
    """Return for each unit that of the strongest other map at the same place of the same picture."""
    layer = _one_layer(units)
    with torch.no_grad():
        maps = net.trace(x, upto=layer)[layer].maps
    found = []
    for unit in units:
        values = maps[unit.image, :, unit.row, unit.column].clone()
        values[unit.map] = -1
        found.append(unit._replace(map=int(values.argmax())))
    return found


def projections(net: ConvNet, x: Tensor, units: Sequence[Unit], way: str = "deconvnet") -> list[np.ndarray]:
    """Send units down one of the ways, each cut to the pixels that can change it.

    The signal starts from 1 and the unit itself counts as active, so that there is a projection in every network:
    scale is all that differs from `deconv`.

    Args:
        net: The network.
        x: Prepared pictures [n, 3, H, W].
        units: Units of one layer.
        way: A key of `WAYS`, or `GRADIENT` for the derivative of the unit by the pixels.

    Returns:
        One float array [3, h, w] a unit.
    """
    if way not in WAYS and way != GRADIENT:
        raise SanityError(f"there is no way {way!r}; choose one of {', '.join([*WAYS, GRADIENT])}")
    layer, found = _one_layer(units), []
    top = _opened(net, layer)
    for start in range(0, len(units), BATCH):
        part = units[start : start + BATCH]
        pictures = x[[unit.image for unit in part]]
        images = _gradient(top, pictures, part) if way == GRADIENT else _projected(top, pictures, part, WAYS[way])
        found += [seen(net, image, unit).cpu().numpy() for image, unit in zip(images, part, strict=True)]
    return found


def seen(net: ConvNet, image: Tensor, unit: Unit) -> Tensor:
    """Cut the pixels that can change a unit out of an image [3, H, W]."""
    return cut(image, input_window(net.spec, unit.layer, unit.row, unit.column, *image.shape[-2:]))


@torch.no_grad()
def randomised(net: ConvNet, layers: Sequence[str], seed: int = 0) -> ConvNet:
    """Return a copy of a network with random weights in some layers.

    They are normal with the deviation of the layer's own weights, so that the activations keep their scale; biases
    are 0. A layer's random weights do not depend on which other layers are replaced.
    """
    copy, names = deepcopy(net), [layer.name for layer in net.spec.layers]
    for layer in layers:
        generator = torch.Generator().manual_seed(seed * len(names) + names.index(net.spec[layer].name))
        module = copy.get_submodule(layer)
        drawn = torch.randn(module.weight.shape, generator=generator)
        module.weight.copy_(drawn.to(module.weight) * module.weight.std())
        module.bias.zero_()
    return copy


def cascade(net: ConvNet, layer: str) -> tuple[tuple[str, ...], ...]:
    """Return which layers are random at each step from the top down: `layer`, then it and the one beneath ….

    Example:
        >>> from zfnet_lib.specs import MINI
        >>> cascade(ConvNet(MINI), "conv3")
        (('conv3',), ('conv3', 'conv2'), ('conv3', 'conv2', 'conv1'))
    """
    below = [conv.name for conv in net.spec.features(layer).convs][::-1]
    return tuple(tuple(below[: n + 1]) for n in range(len(below)))


def similarity(one: np.ndarray, other: np.ndarray) -> Similarity:
    """Compare two projections [3, h, w].

    Example:
        >>> values = np.random.default_rng(0).normal(size=(3, 9, 9))
        >>> tuple(round(float(value), 6) for value in similarity(values, 2 * values))
        (1.0, 1.0, 1.0)
    """
    one, other = (np.asarray(values, np.float64) for values in (one, other))
    if not one.any() or not other.any():
        return Similarity(0.0, 0.0, 0.0)
    contrasts = (_contrast(values) for values in (one, other))
    ssim = structural_similarity(*contrasts, data_range=2.0, channel_axis=0, win_size=_window(one))
    return Similarity(rank_correlation(np.abs(one), np.abs(other)), _cosine(one, other), float(ssim))


def copied(projection: np.ndarray, picture: np.ndarray) -> float:
    """Return how much the edges of a projection follow those of the picture, whatever the unit.

    Args:
        projection: [3, h, w].
        picture: [3, h, w], what lies in the same window.

    Returns:
        The rank correlation of the two gradient magnitudes, colours averaged.
    """
    return rank_correlation(sobel(projection.mean(0)), sobel(picture.mean(0)))


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return Spearman's correlation of two arrays of one shape; 0 where one of them is constant.

    Example:
        >>> rank_correlation(np.array([1, 2, 3]), np.array([1, 10, 100]))
        1.0
    """
    one, other = (_ranks(values) - (values.size + 1) / 2 for values in (one, other))
    return _cosine(one, other)


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    size = np.sqrt((one * one).sum() * (other * other).sum())
    return float((one * other).sum() / size) if size else 0.0


def _one_layer(units: Sequence[Unit]) -> str:
    layers = {unit.layer for unit in units}
    if len(layers) != 1:
        raise SanityError(f"the units are of one layer; given {', '.join(sorted(layers)) or 'none'}")
    return layers.pop()


def _projected(net: ConvNet, x: Tensor, units: Sequence[Unit], way: Mapping[str, str]) -> Tensor:
    """Send one unit of each picture down."""
    with torch.no_grad():
        trace = net.trace(x)
    signal = torch.zeros_like(trace[units[0].layer].maps)
    signal[_places(units)] = 1
    return project(trace, units[0].layer, signal, **way)


def _gradient(net: ConvNet, x: Tensor, units: Sequence[Unit]) -> Tensor:
    """Return the derivative of one unit of each picture by its pixels."""
    x = x.clone().requires_grad_()
    maps = net.trace(x)[units[0].layer].maps
    return torch.autograd.grad(maps[_places(units)].sum(), x)[0]


def _opened(net: ConvNet, layer: str) -> ConvNet:
    """Return the network up to a layer whose units are all active; what comes back from them stays the same."""
    part = deepcopy(net.features(layer))
    with torch.no_grad():
        part.get_submodule(layer).bias.fill_(OPEN)
    return part


def _places(units: Sequence[Unit]) -> tuple[list[int], ...]:
    """Return the index of unit i in the maps of picture i."""
    maps, rows, columns = zip(*(unit[2:] for unit in units), strict=True)
    return list(range(len(units))), list(maps), list(rows), list(columns)


def _contrast(values: np.ndarray) -> np.ndarray:
    """Scale a projection so that nearly all of it lies in [-1, 1]."""
    return np.clip(values / np.percentile(np.abs(values[values != 0]), SHARE), -1, 1)


def _window(values: np.ndarray) -> int:
    """Return the side of SSIM's window: 7, or the largest odd one that fits."""
    return min(7, (min(values.shape[1:]) + 1) // 2 * 2 - 1)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks from 1; equal values share their mean rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (count.cumsum() - (count - 1) / 2)[place].ravel()


# Sanity: what is left of projections when weights, switches or the rule of the way down change.

FOLLOWED = ("deconvnet", "forward mask", "guided")
"""The ways whose projections are followed through the randomisation."""
CANDIDATES = 20
"""Pictures among which those are found that excite the layer."""


@dataclass(frozen=True)
class Randomisation:
    """Projections while the weights are replaced.

    Attributes:
        steps: The layers that are random at each step.
        similarities: By way [steps, units, 3]: to the trained network's projection, as `Similarity`.
        projections: Of the deconvnet: one list a step, of float [3, h, w], one a unit.
    """

    steps: tuple[tuple[str, ...], ...]
    similarities: dict[str, np.ndarray]
    projections: list[list[np.ndarray]]


@dataclass(frozen=True)
class Trust:
    """How far the projections of some units can be trusted.

    Attributes:
        units: The strongest of each picture first, then the second strongest …; `image` counts in the data set.
        patches: uint8 [h, w, 3], what each can see.
        shown: By way: their projections, float [3, h, w].
        downwards: Random weights from the top down.
        alone: Random weights in one layer at a time.
        owed: What the projections of each way owe to the unit and to the picture.
        verdict: The same in words.
        source: What it was computed from.
    """

    units: list[Unit]
    patches: list[np.ndarray]
    shown: dict[str, list[np.ndarray]]
    downwards: Randomisation
    alone: Randomisation
    owed: Table
    verdict: Note
    source: Source

    @property
    def names(self) -> list[str]:
        """Layer and map of each unit, on two lines."""
        return [f"{unit.layer}\nmap {unit.map}" for unit in self.units]

    @property
    def curves(self) -> dict[str, tuple]:
        """Steps and similarities of both randomisations, as `figures.sanity.curves` takes them."""
        both = {"from the top down": self.downwards, "one layer alone": self.alone}
        return {title: (one.steps, one.similarities) for title, one in both.items()}


def measure(
    profile: str,
    pictures: str = "",
    network: str = "",
    layer: str = "",
    count: int = 5,
    units: int = 2,
    seed: int = 0,
) -> Trust:
    """Put the projections of the strongest units to the tests of later work.

    Args:
        profile: `smoke`, `tiny` or `paper`.
        pictures: A data set; the profile's by default.
        network: Weights; the profile's by default.
        layer: The units' layer; the highest convolutional one by default.
        count: Pictures, the first of classes spread over the data set that excite as many maps as wanted.
        units: Units of each picture, of different maps.
        seed: Of the random weights.

    Raises:
        ZfnetError: Unknown profile, data set or layer, or more pictures or units than there are.
    """
    chosen = opened(profile, pictures, network)
    net, dataset = chosen.net, chosen.dataset
    layer = layer or net.spec.convs[-1].name
    part = net.features(layer)
    rows = spread(dataset, min(max(count, min(CANDIDATES, len(dataset.classes))), len(dataset)))
    x = net.prepare([dataset[row].picture for row in rows])
    found = _units(part, x, layer, count, units)
    shown = {way: projections(part, x, found, way) for way in (*WAYS, GRADIENT)}
    steps = cascade(part, layer)
    single = tuple(step[-1:] for step in steps)
    downwards, alone = (_randomisation(part, x, found, shown, chosen, seed) for chosen in (steps, single))
    owed = _owed(part, x, found, shown)
    return Trust(
        [unit._replace(image=rows[unit.image]) for unit in found],
        [_rows_first(seen(net, net.preparation.visible(x[unit.image]), unit)) for unit in found],
        shown,
        downwards,
        alone,
        owed,
        _verdict(owed, downwards),
        chosen.source(seed),
    )


def _units(net: ConvNet, x: Tensor, layer: str, count: int, units: int) -> list[Unit]:
    """Return units of the first `count` pictures that excite as many maps: the strongest of each picture first."""
    found = strongest_units(net, x, layer, units)
    if not 1 <= count <= len(found) // units:
        raise ZfnetError(
            f"of {len(x)} pictures {len(found) // units} excite {units} maps of {layer}; "
            f"choose a count from 1 to that, not {count}, or fewer units"
        )
    return [unit for rank in range(units) for unit in found[rank : count * units : units]]


def _randomisation(net, x, units, shown, steps, seed) -> Randomisation:
    """Project the units again with random weights, one step after the other."""
    similarities, pictures = {way: [] for way in FOLLOWED}, []
    for step in steps:
        changed = randomised(net, step, seed)
        for way, found in similarities.items():
            again = projections(changed, x, units, way)
            found.append([similarity(*pair) for pair in zip(shown[way], again, strict=True)])
            if way == FOLLOWED[0]:
                pictures.append(again)
    return Randomisation(steps, {way: np.array(found) for way, found in similarities.items()}, pictures)


def _owed(net: ConvNet, x: Tensor, units: Sequence[Unit], shown: dict[str, list[np.ndarray]]) -> Table:
    """Compare each projection with that of another map, with that from another picture, and with edges."""
    others = rivals(net, x, units)
    pictures = list(dict.fromkeys(unit.image for unit in units))
    following = dict(zip(pictures, [*pictures[1:], pictures[0]], strict=True))
    elsewhere = [unit._replace(image=following[unit.image]) for unit in units]
    rows = []
    for way, own in shown.items():
        by_map = _similarity(own, projections(net, x, others, way))
        by_picture = _similarity(own, projections(net, x, elsewhere, way))
        rows.append(
            {
                "way": way,
                "map": round(by_map.cosine, 3),
                "map places": round(by_map.spearman, 3),
                "picture": round(by_picture.cosine, 3),
                "edges": _copied(own, _windows(net, x, units)),
                "other edges": _copied(own, _windows(net, x, elsewhere)),
            }
        )
    columns = {
        "way": "Way to the pixels",
        "map": "Other map, same place: cosine",
        "map places": "the same: Spearman",
        "picture": "Same unit, other picture: cosine",
        "edges": "Edges of its picture",
        "other edges": "Edges of another picture",
    }
    return Table(columns, rows)


def _verdict(owed: Table, downwards: Randomisation) -> Note:
    """Say what the deconvnet's projections owe to the unit, and what to the picture."""
    ways = {row["way"]: row for row in owed.rows}
    ours, exact = ways[FOLLOWED[0]], ways[GRADIENT]
    cosine = Similarity._fields.index("cosine")
    first, last = (downwards.similarities[FOLLOWED[0]][step, :, cosine].mean() for step in (0, -1))
    return Note(
        f"Two units of different maps at the same place of a picture: the deconvnet shows the same to a cosine of "
        f"{ours['map']:.2f}, the exact gradient to {exact['map']:.2f}. The same unit on another picture: "
        f"{ours['picture']:z.2f}. Random weights in {downwards.steps[0][0]} leave a cosine of {first:.2f} with the "
        f"trained projection, random weights in all layers {last:.2f}. The deconvnet's edges follow those of the "
        f"picture by {ours['edges']:.2f}, those of another picture by {ours['other edges']:z.2f}."
    )


def _similarity(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> Similarity:
    """Return the mean similarity of pairs."""
    return Similarity(*np.mean([similarity(*pair) for pair in zip(some, others, strict=True)], axis=0))


def _copied(some: Sequence[np.ndarray], windows: Sequence[np.ndarray]) -> float:
    return round(float(np.mean([copied(*pair) for pair in zip(some, windows, strict=True)])), 3)


def _windows(net: ConvNet, x: Tensor, units: Sequence[Unit]) -> list[np.ndarray]:
    """Return what each unit can see."""
    return [seen(net, x[unit.image], unit).cpu().numpy() for unit in units]


def _rows_first(picture: Tensor) -> np.ndarray:
    return picture.permute(1, 2, 0).numpy()


# Projections put to the test: other ways to the pixels, and random weights.

ROWS = 5
"""Units drawn; the curves rest on all."""
MEASURES = ("Spearman, absolute values", "cosine", "SSIM")
STYLES = ((BLUE, "o", "-"), (VERMILION, "s", "--"), (GREEN, "D", ":"))


def ways(
    patches: Sequence[np.ndarray], shown: Mapping[str, Sequence[np.ndarray]], names: Sequence[str], title: str
) -> Figure:
    """Set the projections of some units by several ways beside what the units see.

    Args:
        patches: uint8 [h, w, 3], one a unit.
        shown: By way: float [3, h, w], one a unit, each drawn at its own contrast.
        names: Of the units.
        title: Of the figure.
    """
    return _beside(patches, shown, names, title)


def randomisation(
    patches: Sequence[np.ndarray],
    trained: Sequence[np.ndarray],
    steps: Sequence[Sequence[str]],
    projections: Sequence[Sequence[np.ndarray]],
    names: Sequence[str],
    title: str,
) -> Figure:
    """Set projections with random weights beside those of the trained network.

    Args:
        patches: uint8 [h, w, 3], one a unit.
        trained: float [3, h, w], one a unit.
        steps: Layers that are random at each step.
        projections: One list a step, like `trained`.
        names: Of the units.
        title: Of the figure.
    """
    columns = {"trained": trained} | dict(zip(map(_step, steps), projections, strict=True))
    return _beside(patches, columns, names, title)


def curves(sweeps: Mapping[str, tuple[Sequence[Sequence[str]], Mapping[str, np.ndarray]]]) -> Figure:
    """Draw how far projections stay what they were while weights are replaced: mean and deviation over the units.

    Args:
        sweeps: By title: the steps, and by way the similarities [steps, units, 3] to the trained projection.
    """
    figure = Figure(0.5 + 2.3 * len(sweeps))
    panels = figure.subplots(len(sweeps), len(MEASURES), sharey=True, squeeze=False)
    for line, (title, (steps, similarities)) in zip(panels, sweeps.items(), strict=True):
        for number, (axes, measure) in enumerate(zip(line, MEASURES, strict=True)):
            for (way, values), style in zip(similarities.items(), STYLES, strict=False):
                _curve(axes, np.asarray(values)[:, :, number], way, style)
            axes.set_title(measure, fontsize=NORMAL, loc="left")
            axes.set_xticks(range(len(steps) + 1), ["none", *(_step(step) for step in steps)], rotation=45)
            axes.axhline(0, color=GREY, linewidth=0.8)
            axes.tick_params(labelsize=SMALL)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", linewidth=0.4, alpha=0.5)
        line[0].set_ylabel(f"{title}:\nsimilarity", fontsize=NORMAL)
    handles = panels[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="lower center", ncols=3, fontsize=SMALL, frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    return figure


def _curve(axes, values: np.ndarray, way: str, style: tuple[str, str, str]) -> None:
    """Draw the mean over the units with its deviation; before the first step a projection is like itself."""
    mean, deviation = ((part(values, axis=1), start) for part, start in ((np.mean, 1), (np.std, 0)))
    mean, deviation = (np.concatenate([[start], values]) for values, start in (mean, deviation))
    colour, marker, line = style
    axes.errorbar(
        range(len(mean)), mean, deviation, color=colour, marker=marker, linestyle=line, markersize=4, linewidth=1.4,
        elinewidth=0.8, capsize=2, label=way,
    )  # fmt: skip


def _step(layers: Sequence[str]) -> str:
    """Name the layers of a step: the one that is new, with a sign where there were others before."""
    return ("+ " if len(layers) > 1 else "") + layers[-1]


def _beside(patches, columns: Mapping[str, Sequence[np.ndarray]], names: Sequence[str], title: str) -> Figure:
    rows = [
        [patch, *(projection_image(own[place]) for own in columns.values())]
        for place, patch in enumerate(patches[:ROWS])
    ]
    return picture_grid(rows, names[:ROWS], ["what it sees", *columns], title)
