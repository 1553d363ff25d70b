"""How far projections can be trusted: what is left of them with other weights, switches or rules on the way down.

Later work asked what such pictures owe to what the network has learnt, and what they copy from the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import rankdata
from skimage.filters import sobel
from skimage.metrics import structural_similarity
from torch import Tensor

from ..architecture import Unit, input_window
from ..deconv import cut, project, strongest_unit
from ..files import ZfnetError
from ..images import projection_image, robust_maximum
from ..network import ConvNet, Trace
from ..strongest import rows_first
from .invariance import spread
from .plots import BLUE, GREEN, GREY, VERMILION, Figure, legend, picture_grid, plain
from .records import Sentence, Table
from .setting import Source, opened, progress

GRADIENT = "exact gradient"
WAYS: dict[str, dict[str, str]] = {
    "deconvnet": {},
    "central switches": {"switches": "centre"},
    "random switches": {"switches": "random"},
    "forward mask": {"rectify": "mask"},
    "guided": {"rectify": "both"},
}
"""Ways from a unit to the pixels, as arguments of `project`: the paper's; without its switches; with the forward
mask of its footnote 1 instead of the rectification; and with both (guided backpropagation)."""
FOLLOWED = {"deconvnet": (BLUE, "o", "-"), "forward mask": (VERMILION, "s", "--"), "guided": (GREEN, "D", ":")}
"""The ways whose projections are followed through the randomisation, and how their curves are drawn."""
ROWS = 5  # units drawn; the curves rest on all


class Similarity(NamedTuple):
    """How alike two projections are, each from -1 to 1; 0 where one of them is zero everywhere."""

    spearman: float  # rank correlation of the absolute values: where there is something
    cosine: float  # of the signed values: which structure it is
    ssim: float  # structural similarity, each projection at its own contrast


class Randomisation(NamedTuple):
    """Projections while the weights are replaced."""

    similarities: dict[str, np.ndarray]  # by way [steps, units, 3]: to the trained network's projection
    projections: dict[str, list[np.ndarray]]  # the deconvnet's, by step, of which "trained" is the first


class Trust(NamedTuple):
    """How far the projections of some units can be trusted."""

    units: list[Unit]  # the strongest of each picture first, then the second strongest …
    net: ConvNet  # up to the units' layer
    x: Tensor  # prepared pictures, in which the units count
    patches: list[np.ndarray]  # uint8 [h, w, 3], what each unit can see
    shown: dict[str, list[np.ndarray]]  # by way: their projections, float [3, h, w]
    downwards: Randomisation  # random weights from the top down
    alone: Randomisation  # random weights in one layer at a time
    owed: Table  # what the projections of each way owe to the unit and to the picture
    verdict: Sentence  # the same in words
    source: Source


def measure(profile, pictures="", network="", layer="", count=5, units=2, seed=0) -> Trust:
    """Put projections of the strongest units of different maps in some pictures to the tests of later work."""
    at = opened(profile, pictures, network)
    layer = layer or at.net.spec.convs[-1].name
    net, dataset = at.net.features(layer), at.dataset
    # Twenty pictures, among which those are found that excite the layer.
    rows = spread(dataset, min(max(count, min(20, len(dataset.classes))), len(dataset)))
    x = net.prepare([dataset[row].picture for row in rows])
    found = strongest_units(net, x, layer, units)
    if not 2 <= count <= len(found) // units:
        raise ZfnetError(
            f"of {len(x)} pictures {len(found) // units} excite {units} maps of {layer}; "
            f"choose a count from 2 to that, not {count}, or fewer units"
        )
    found = [unit for rank in range(units) for unit in found[rank : count * units : units]]
    patches = [rows_first(seen(net, net.preparation.visible(x[unit.image]), unit)) for unit in found]
    shown = {way: projections(net, x, found, way) for way in progress((*WAYS, GRADIENT), "ways to the pixels")}
    below = [conv.name for conv in net.spec.convs][::-1]
    downwards = _randomisation(net, x, found, shown, [below[: n + 1] for n in range(len(below))], seed)
    alone = _randomisation(net, x, found, shown, [[name] for name in below], seed)
    owed = _owed(net, x, found, shown)
    ways = {row["way"]: row for row in owed.rows}
    ours, exact = ways["deconvnet"], ways[GRADIENT]
    cosines = downwards.similarities["deconvnet"][:, :, Similarity._fields.index("cosine")].mean(1)
    verdict = Sentence(
        f"Projections of two units of different maps at the same place of a picture have a cosine of "
        f"{ours['map']:.2f}; by the exact gradient, of {exact['map']:.2f}. Those of the same unit on two pictures: "
        f"{ours['picture']:z.2f}. Random weights in {layer} leave a cosine of {cosines[0]:.2f} with the trained "
        f"projection, random weights in all layers {cosines[-1]:.2f}. The deconvnet's edges follow those of the "
        f"picture by {ours['edges']:.2f}, those of another picture by {ours['other edges']:z.2f}."
    )
    return Trust(found, net, x, patches, shown, downwards, alone, owed, verdict, at.source(seed))


def strongest_units(net: ConvNet, x: Tensor, layer: str, count: int) -> list[Unit]:
    """Return the strongest units of the `count` strongest maps of each picture that excites as many."""
    with torch.no_grad():
        maps = net.trace(x, upto=net.spec.conv(layer).name)[layer].maps
    peaks = maps.amax((2, 3))
    excited = (peaks > 0).sum(1)
    if not 1 <= count <= excited.max():
        raise ZfnetError(f"no picture excites {count} maps of {layer}; choose a number from 1 to {excited.max()}")
    return [
        Unit(image, layer, *strongest_unit(maps[image], map_))
        for image in (excited >= count).nonzero().flatten().tolist()
        for map_ in peaks[image].argsort(descending=True, stable=True)[:count].tolist()
    ]


def projections(net: ConvNet, x: Tensor, units: Sequence[Unit], way: str = "deconvnet") -> list[np.ndarray]:
    """Send units of one layer down one of `WAYS`, or `GRADIENT`, each cut to the pixels that can change it.

    The signal starts from 1 and the unit counts as active, so there is a projection in every network.
    """
    if way not in WAYS and way != GRADIENT:
        raise ZfnetError(f"there is no way {way!r}; choose one of {', '.join([*WAYS, GRADIENT])}")
    layers, found = sorted({unit.layer for unit in units}), []
    if len(layers) != 1:
        raise ZfnetError(f"the units are of one layer; given {', '.join(layers) or 'none'}")
    (layer,) = layers
    active = deepcopy(net.features(layer))
    # A bias above every response: all units of the layer are active; what comes back from them stays the same.
    torch.nn.init.constant_(active.get_submodule(layer).bias, 1e9)
    for start in range(0, len(units), 8):
        part = units[start : start + 8]
        pictures = x[[unit.image for unit in part]].detach().requires_grad_(way == GRADIENT)
        with torch.set_grad_enabled(way == GRADIENT):
            trace = active.trace(pictures)
        maps = trace[layer].maps
        places = tuple(zip(*((i, *unit.place) for i, unit in enumerate(part)), strict=True))
        if way == GRADIENT:
            (images,) = torch.autograd.grad(maps[places].sum(), pictures)
        else:
            signal = torch.zeros_like(maps)
            signal[places] = 1
            images = project(trace, layer, signal, **WAYS[way])
        found += [seen(net, image, unit).cpu().numpy() for image, unit in zip(images, part, strict=True)]
    return found


def seen(net: ConvNet, image: Tensor, unit: Unit) -> Tensor:
    """Cut the pixels that can change a unit out of an image [3, H, W]."""
    return cut(image, input_window(net.spec, unit.layer, unit.row, unit.column, *image.shape[-2:]))


@torch.no_grad()
def randomised(net: ConvNet, layers: Sequence[str], seed: int = 0) -> ConvNet:
    """Return a copy of a network with random weights in some layers, whatever other layers are replaced."""
    # Normal with the deviation of the layer's own weights, so that the activations keep their scale.
    copy, names = deepcopy(net), [layer.name for layer in net.spec.layers]
    for layer in layers:
        generator = torch.Generator().manual_seed(seed * len(names) + names.index(net.spec[layer].name))
        module = copy.get_submodule(layer)
        drawn = torch.randn(module.weight.shape, generator=generator)
        module.weight.copy_(drawn.to(module.weight) * module.weight.std())
        module.bias.zero_()
    return copy


def _randomisation(net, x, units, shown, steps: Sequence[Sequence[str]], seed) -> Randomisation:
    """Project the units again with random weights, one step after the other."""
    similarities, pictures = {way: [] for way in FOLLOWED}, {"trained": shown["deconvnet"]}
    for step in progress(steps, "random weights"):
        changed = randomised(net, step, seed)
        again = {way: projections(changed, x, units, way) for way in FOLLOWED}
        for way, found in similarities.items():
            found.append(compared(similarity, shown[way], again[way]))
        # The layer that is new, with a sign where there were others before.
        pictures[("+ " if len(step) > 1 else "") + step[-1]] = again["deconvnet"]
    return Randomisation({way: np.array(found) for way, found in similarities.items()}, pictures)


def compared(measure, some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> np.ndarray:
    """Compare arrays pair by pair."""
    return np.array([measure(*pair) for pair in zip(some, others, strict=True)])


def similarity(one: np.ndarray, other: np.ndarray) -> Similarity:
    """Compare two projections [3, h, w]."""
    one, other = (np.asarray(values, np.float64) for values in (one, other))
    if not one.any() or not other.any():
        return Similarity(0.0, 0.0, 0.0)
    contrasts = (np.clip(each / robust_maximum(each), -1, 1) for each in (one, other))
    window = min(7, (min(one.shape[1:]) + 1) // 2 * 2 - 1)  # 7, or the largest odd side that fits
    ssim = structural_similarity(*contrasts, data_range=2.0, channel_axis=0, win_size=window)
    return Similarity(rank_correlation(np.abs(one), np.abs(other)), _cosine(one, other), float(ssim))


def copied(projection: np.ndarray, picture: np.ndarray) -> float:
    """Return the rank correlation of the edges of a projection [3, h, w] and of the picture there."""
    return rank_correlation(sobel(projection.mean(0)), sobel(picture.mean(0)))


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return Spearman's correlation of two arrays of one shape; 0 where one of them is constant."""
    return _cosine(*(rankdata(values) - (np.size(values) + 1) / 2 for values in (one, other)))


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    size = np.sqrt((one * one).sum() * (other * other).sum())
    return float((one * other).sum() / size) if size else 0.0


def rivals(trace: Trace, units: Sequence[Unit]) -> list[Unit]:
    """Return for each unit the strongest one of another map at the same place of the same picture."""
    found = []
    for unit in units:
        answers = trace[unit.layer].maps[unit.image, :, unit.row, unit.column].clone()
        answers[unit.map] = -1
        found.append(unit._replace(map=int(answers.argmax())))
    return found


def _owed(net: ConvNet, x: Tensor, units: Sequence[Unit], shown: Mapping[str, list[np.ndarray]]) -> Table:
    """Compare each projection with that of another map, with that from another picture, and with edges."""
    with torch.no_grad():
        others = rivals(net.trace(x), units)
    images = list(dict.fromkeys(unit.image for unit in units))
    following = dict(zip(images, [*images[1:], images[0]], strict=True))
    elsewhere, rows = [unit._replace(image=following[unit.image]) for unit in units], []
    windows, strange = ([seen(net, x[one.image], one).cpu().numpy() for one in each] for each in (units, elsewhere))
    for way, own in shown.items():
        places, cosine, _ = compared(similarity, own, projections(net, x, others, way)).mean(0)
        _, picture, _ = compared(similarity, own, projections(net, x, elsewhere, way)).mean(0)
        own_edges, other_edges = (compared(copied, own, each).mean() for each in (windows, strange))
        cells = {"map": cosine, "map places": places, "picture": picture}
        cells |= {"edges": own_edges, "other edges": other_edges}
        rows.append({"way": way} | {key: round(float(value), 3) for key, value in cells.items()})
    columns = {"way": "Way to the pixels", "map": "Other map, same place: cosine"}
    columns |= {"map places": "the same: Spearman", "picture": "Same unit, other picture: cosine"}
    columns |= {"edges": "Edges of its picture", "other edges": "Edges of another picture"}
    return Table(columns, rows)


def draw(result: Trust, projections: Mapping[str, Sequence[np.ndarray]], title: str) -> Figure:
    """Set projections of the units, by what they are called, beside what the units see."""
    rows = [
        [patch, *(projection_image(own[place]) for own in projections.values())]
        for place, patch in enumerate(result.patches[:ROWS])
    ]
    names = [f"{unit.layer}\nmap {unit.map}" for unit in result.units[:ROWS]]
    return picture_grid(rows, names, ["what it sees", *projections], title)


def draw_curves(result: Trust) -> Figure:
    """Draw how alike projections stay while weights are replaced: mean and deviation over the units."""
    figure, names = Figure(0.5 + 2 * 2.3), ("Spearman, absolute values", "cosine", "SSIM")
    panels = figure.subplots(2, len(names), sharey=True)
    sweeps = {"from the top down": result.downwards, "one layer alone": result.alone}
    for line, (title, sweep) in zip(panels, sweeps.items(), strict=True):
        steps = ["none", *list(sweep.projections)[1:]]
        for number, (axes, name) in enumerate(zip(line, names, strict=True)):
            for way, (colour, marker, style) in FOLLOWED.items():
                values = sweep.similarities[way][:, :, number]
                mean, deviation = [1, *values.mean(1)], [0, *values.std(1)]  # before the first step, like itself
                look = {"color": colour, "marker": marker, "linestyle": style, "markersize": 4, "linewidth": 1.4}
                axes.errorbar(range(len(steps)), mean, deviation, elinewidth=0.8, capsize=2, label=way, **look)
            plain(axes, name, y="" if number else f"{title}:\nsimilarity")
            axes.set_xticks(range(len(steps)), steps, rotation=45)
            axes.axhline(0, color=GREY, linewidth=0.8)
    legend(figure, panels[0, 0], 3)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    return figure
