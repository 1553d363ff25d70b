"""How far features move when a picture is translated, scaled or rotated (section 6: "increasing invariance")."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, radians, sin
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.ticker import MultipleLocator
from torch import Tensor
from torch.nn import functional as F

from ..datasets import Dataset
from ..files import ZfnetError
from ..images import FigureError, Preparation, as_picture, centre_square, resize_short_side
from ..network import ConvNet, Trace
from ..strongest import rows_first
from . import plots
from .records import Sentence, Table
from .setting import Source, class_names, opened, progress

EXACT = "donot_use_mm_for_euclid_dist"
"""How `torch.cdist` works without cancellation."""


class Transformation(NamedTuple):
    """One way to move a picture, in steps."""

    name: str
    unit: str  # what the steps count
    way: str  # the argument of `transformed` that takes a step
    steps: tuple[float, ...]  # one of them leaves the picture as it is


_SHIFTS = tuple(n / 224 for n in range(-60, 61, 10))
TRANSFORMATIONS = (
    Transformation("vertical translation", "share of the side", "shift", _SHIFTS),
    Transformation("scale", "factor", "scale", tuple(n / 10 for n in range(10, 19))),
    Transformation("rotation", "degrees", "turn", tuple(float(n) for n in range(0, 360, 15))),
)
"""The ranges of the arXiv version's figure, as recalled: 60 of 224 pixels up and down, 1.8 times, all round."""


class Sweep(NamedTuple):
    """What one transformation does to n pictures in s steps."""

    transformation: Transformation
    distances: dict[str, np.ndarray]  # by layer [n, s]: 0 is no change, 1 as much as another picture
    probabilities: np.ndarray | None  # [n, s] of each picture's class; None without a classifier
    filled: np.ndarray  # [n, s]: share of the view beyond the picture's edge, filled with its mirror image


class Invariance(NamedTuple):
    """Sweeps through all transformations."""

    sweeps: tuple[Sweep, ...]
    layers: tuple[str, ...]  # all with rectified outputs, from the picture upwards
    labels: tuple[int, ...] | None  # the classes whose probability is followed
    answered: bool  # whether these are the network's own first answers

    @property
    def ends(self) -> tuple[str, str]:
        """The lowest and the highest layer: layers 1 and 7 of the paper's network."""
        return self.layers[0], self.layers[-1]


class Robustness(NamedTuple):
    """What transformations do to some pictures."""

    found: Invariance
    pictures: list[Tensor]
    by_layer: Table  # mean distances of all layers, beside those of the same network with random weights
    basis: Sentence  # what the distances count in, whose probability is followed, and what fills the view
    net: ConvNet
    source: Source


def measure(profile: str, pictures: str = "", network: str = "", count: int = 5, seed: int = 0) -> Robustness:
    """Translate, scale and rotate pictures; follow features and answer (the arXiv figure, as recalled)."""
    at = opened(profile, pictures, network, whole=True)
    net, dataset, rows = at.net, at.dataset, spread(at.dataset, count)
    shown = [dataset[row].picture for row in rows]
    known = bool(net.classes) and not dataset.multilabel and class_names(profile, network) == dataset.classes
    found = invariance(net, shown, [int(dataset.labels[row]) for row in rows] if known else None)
    untrained = invariance(ConvNet(net.spec, net.preparation, seed).eval(), shown)
    columns, table = {"layer": "Layer"}, [{"layer": layer} for layer in found.layers]
    for ours, theirs in zip(found.sweeps, untrained.sweeps, strict=True):
        name = ours.transformation.name
        columns |= {name: name.capitalize(), f"{name} random": "… with random weights"}
        for row in table:
            row[name] = round(float(ours.distances[row["layer"]].mean()), 3)
            row[f"{name} random"] = round(float(theirs.distances[row["layer"]].mean()), 3)
    if found.labels is None:
        followed = (
            f"There is no classifier here: {found.ends[1]} is the highest layer, and there are no probabilities"
        )
    else:
        whose = "network's own first answer to the picture as it is" if found.answered else "picture's class"
        followed = f"The probability is that of the {whose}"
    filled = 100 * max(sweep.filled.max() for sweep in found.sweeps)
    basis = Sentence(
        f"Distances are shares of the picture's mean distance from the other pictures. {followed}. "
        f"Up to {filled:.0f} % of a view lie beyond the picture's edge and are filled with its mirror image."
    )
    return Robustness(found, shown, Table(columns, table), basis, net, at.source(seed))


def spread(dataset: Dataset, count: int) -> list[int]:
    """Return the first pictures of `count` classes spread evenly; where there are fewer, pictures spread evenly."""
    if not 1 <= count <= len(dataset):
        raise ZfnetError(f"{dataset.name} has {len(dataset)} pictures; choose 1 to {len(dataset)}, not {count}")
    labels = dataset.labels.argmax(1) if dataset.multilabel else dataset.labels
    _, first = np.unique(labels, return_index=True)
    rows = first if count <= len(first) else np.arange(len(dataset))
    return rows[np.arange(count) * len(rows) // count].tolist()


@torch.no_grad()
def invariance(
    net: ConvNet,
    pictures: Sequence,
    labels: Sequence[int] | None = None,
    transformations: Sequence[Transformation] = TRANSFORMATIONS,
) -> Invariance:
    """Follow every layer's features, and the probability of a class, while pictures are transformed.

    Distances are Euclidean, as shares of a picture's mean distance from the others. Default: the first answers.
    """
    n, spec, preparation = len(pictures), net.spec, net.preparation
    if n < 2:
        raise ZfnetError(f"distances count in those between pictures: give at least 2, not {n}")
    if labels is not None and not spec.classes:
        raise ZfnetError(f"{spec.name} has no classifier here; leave the labels out")
    if labels is not None and (len(labels) != n or not all(0 <= label < spec.classes for label in labels)):
        given = ", ".join(map(str, labels)) or "none"
        raise ZfnetError(f"{n} pictures take {n} labels from 0 to {spec.classes - 1}; given {given}")

    def features(trace: Trace) -> dict[str, Tensor]:  # on the processor: Apple's GPUs lack float64
        return {layer: stage.maps.flatten(1).cpu() for layer, stage in trace.stages.items()}

    pictures = [resize_short_side(as_picture(picture), preparation.short_side) for picture in pictures]
    trace = net.trace(net.prepare(pictures))
    originals, apart, sweeps, followed = features(trace), {}, [], None
    if spec.classes:
        followed = tuple(trace.logits.argmax(1).tolist() if labels is None else labels)
    for layer, own in originals.items():
        total = torch.cdist(own, own, compute_mode=EXACT).double().sum(1)
        if not total.all():
            raise ZfnetError(f"the pictures have the same features in {layer}; give pictures that differ")
        apart[layer] = total / (n - 1)
    for one in progress(transformations, "transformations"):
        distances, probabilities, filled = {layer: [] for layer in originals}, [], []
        for way in ({one.way: step} for step in one.steps):
            squares = torch.stack([transformed(picture, preparation, **way) for picture in pictures])
            trace = net.trace(centre_square(preparation.normalise(squares), preparation.crop).to(net.device))
            for layer, own in features(trace).items():
                moved = (own - originals[layer]).norm(dim=1, dtype=torch.float64) / apart[layer]
                distances[layer].append(moved.numpy())
            if followed:
                probabilities.append(trace.logits.softmax(1).cpu().numpy()[range(n), followed])
            grids = [_sources(picture, preparation, **way)[0].permute(2, 0, 1) for picture in pictures]
            beyond = [(centre_square(grid, preparation.crop).abs() > 1).any(0) for grid in grids]
            filled.append([float(pixels.double().mean()) for pixels in beyond])
        moved = {layer: np.stack(steps, axis=1) for layer, steps in distances.items()}
        seen = np.stack(probabilities, axis=1) if followed else None
        sweeps.append(Sweep(one, moved, seen, np.array(filled).T))
    return Invariance(tuple(sweeps), tuple(originals), followed, labels is None)


def transformed(
    picture, preparation: Preparation, shift: float = 0.0, scale: float = 1.0, turn: float = 0.0
) -> Tensor:
    """Shift a picture down by a share of the view's side, enlarge it about the centre, turn it clockwise."""
    whole = resize_short_side(as_picture(picture), preparation.short_side).float()
    grid = _sources(whole, preparation, shift, scale, turn)
    values = F.grid_sample(whole[None], grid, "bicubic", "reflection", align_corners=False)
    return values[0].round().clamp(0, 255).to(torch.uint8)


def _sources(whole: Tensor, preparation: Preparation, shift=0.0, scale=1.0, turn=0.0) -> Tensor:
    """Return where each pixel of the square lies in the picture: [1, side, side, 2], x and y from -1 to 1."""
    side, (height, width) = preparation.short_side, whole.shape[-2:]
    c, s = (side * f(radians(turn)) / scale for f in (cos, sin))
    left, top = (2 * ((n - side) // 2) + side for n in (width, height))
    across = [c / width, s / width, left / width - 1]
    down = [-s / height, c / height, (top - 2 * shift * preparation.crop) / height - 1]
    return F.affine_grid(torch.tensor([[across, down]]), [1, 3, side, side], align_corners=False)


COLOURS = (plots.BLUE, plots.VERMILION, plots.GREEN, plots.ORANGE, plots.PURPLE, plots.SKY)
STYLES = tuple(zip(COLOURS, ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), "-"), strict=True))
"""Of the pictures, in turn."""


def draw(result: Robustness) -> plots.Figure:
    """Draw for each transformation what the network sees, distances at two layers, and the class's probability."""
    found, preparation = result.found, result.net.preparation
    if len(result.pictures) > len(STYLES):
        raise FigureError(f"{len(STYLES)} pictures can be told apart; given {len(result.pictures)}")
    curves = 2 if found.labels is None else 3
    figure, shape = plots.Figure(0.3 + 2.45 * len(found.sweeps)), (len(found.sweeps), 1 + curves)
    panels = figure.subplots(*shape, squeeze=False, width_ratios=[0.37 * curves, *[1] * curves])
    highest = max(1.0, *(sweep.distances[layer].max() for sweep in found.sweeps for layer in found.ends))
    size, gap, bar = 76, 6, 10  # pixels of a view, between views, and of the bar in the colour of a picture's line
    side = size + gap
    for (views, *others), sweep in zip(panels, found.sweeps, strict=True):
        way = sweep.transformation
        four = [way.steps[place] for place in np.linspace(0, len(way.steps) - 1, 4).round().astype(int)]
        for row, (picture, (colour, style)) in enumerate(zip(result.pictures, STYLES, strict=False)):
            views.plot([-bar, -bar], [row * side, row * side + size], color=colour, linestyle=style, linewidth=2.4)
            for column, step in enumerate(four):
                view = centre_square(transformed(picture, preparation, **{way.way: step}), preparation.crop)
                place = column * side, column * side + size, row * side + size, row * side
                views.imshow(plots.resized(rows_first(view), size), extent=place)
        views.set(xlim=(-2 * bar, side * len(four)), ylim=(side * (row + 1), -gap), aspect="equal", anchor="W")
        views.set_axis_off()
        views.set_title(way.name, fontsize=plots.NORMAL, loc="left")
        drawn = [(f"{layer}: distance", sweep.distances[layer], highest) for layer in found.ends]
        drawn += [("probability", sweep.probabilities, 1.0)][: curves - 2]
        for axes, (title, values, top) in zip(others, drawn, strict=True):
            for own, (colour, style) in zip(values, STYLES, strict=False):
                axes.plot(way.steps, own, color=colour, linestyle=style, linewidth=1.5)
            axes.set_ylim(-0.04, 1.04 * top)
            plots.plain(axes, title)
            axes.set_xlabel(way.unit, fontsize=plots.SMALL)
            if way.unit == "degrees":
                axes.xaxis.set_major_locator(MultipleLocator(90))
    figure.tight_layout()
    return figure
