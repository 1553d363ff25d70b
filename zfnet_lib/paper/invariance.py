"""How far features move when a picture is translated, scaled or rotated (section 6: "increasing invariance")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
import torch
from matplotlib.ticker import MultipleLocator
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..datasets import Dataset
from ..files import ZfnetError
from ..images import FigureError, Preparation, as_picture, centre_square, require_picture, resize_short_side
from ..network import ConvNet, Trace
from .plots import BLUE, GREEN, NORMAL, ORANGE, PURPLE, SKY, SMALL, VERMILION, Figure
from .setting import Source, opened
from .tables import Note, Table

EXACT = "donot_use_mm_for_euclid_dist"
"""How `torch.cdist` works without cancellation."""


class InvarianceError(ZfnetError, ValueError):
    """Pictures or labels between which no distances can be measured."""


@dataclass(frozen=True)
class Transformation:
    """One way to move a picture, in steps.

    Attributes:
        name: What it is called in print.
        unit: What the steps count.
        way: The argument of `transformed` that takes a step.
        steps: From the first to the last; one of them leaves the picture as it is.
    """

    name: str
    unit: str
    way: str
    steps: tuple[float, ...]


TRANSFORMATIONS = (
    Transformation(
        "vertical translation", "share of the side", "shift", tuple(n / 224 for n in range(-60, 61, 10))
    ),
    Transformation("scale", "factor", "scale", tuple(n / 10 for n in range(10, 19))),
    Transformation("rotation", "degrees", "turn", tuple(float(n) for n in range(0, 360, 15))),
)
"""The ranges of the arXiv version's figure, as recalled: 60 of 224 pixels up and down, 1.8 times, all round."""


@dataclass(frozen=True)
class Sweep:
    """What one transformation does to n pictures in s steps.

    Attributes:
        transformation: Which.
        distances: By layer [n, s]: the Euclidean distance between the features of the picture and of the
            transformed picture, divided by the picture's mean distance from the other pictures; 0 is no change,
            1 as much as another picture.
        probabilities: [n, s] of each picture's class, or None without a classifier.
        filled: [n, s]: share of the view that lies beyond the picture's edge, filled with its mirror image.
    """

    transformation: Transformation
    distances: dict[str, np.ndarray]
    probabilities: np.ndarray | None
    filled: np.ndarray


@dataclass(frozen=True)
class Invariance:
    """Sweeps through all transformations.

    Attributes:
        sweeps: One a transformation.
        layers: All layers with rectified outputs, from the picture upwards.
        labels: The classes whose probability is followed, one a picture; None without a classifier.
        answered: Whether these are the network's own first answers to the pictures as they are.
    """

    sweeps: tuple[Sweep, ...]
    layers: tuple[str, ...]
    labels: tuple[int, ...] | None
    answered: bool

    @property
    def ends(self) -> tuple[str, str]:
        """The lowest and the highest layer: layers 1 and 7 of the paper's network."""
        return self.layers[0], self.layers[-1]


def transformed(
    picture, preparation: Preparation, shift: float = 0.0, scale: float = 1.0, turn: float = 0.0
) -> Tensor:
    """Move a picture before it is cropped, so that the view shows what lay outside it.

    What lies beyond the picture's edge is filled with its mirror image.

    Args:
        picture: As `as_picture` takes it.
        preparation: Of the network; its view stays where it is.
        shift: Downwards, as a share of the view's side.
        scale: Enlargement about the centre.
        turn: Clockwise, degrees.

    Returns:
        uint8 [3, short_side, short_side], the square that the preparation's view is cut from.

    Example:
        >>> picture = torch.arange(27, dtype=torch.uint8).view(3, 3, 3)
        >>> transformed(picture, Preparation.grey(3), turn=90)[0].tolist()
        [[6, 3, 0], [7, 4, 1], [8, 5, 2]]
    """
    whole = resize_short_side(as_picture(picture), preparation.short_side).float()
    grid = _sources(whole, preparation, shift, scale, turn)
    values = F.grid_sample(whole[None], grid, "bicubic", "reflection", align_corners=False)
    return values[0].round().clamp(0, 255).to(torch.uint8)


@torch.no_grad()
def invariance(
    net: ConvNet,
    pictures: Sequence,
    labels: Sequence[int] | None = None,
    transformations: Sequence[Transformation] = TRANSFORMATIONS,
) -> Invariance:
    """Follow the features of every layer, and the class's probability, while pictures are transformed.

    Args:
        net: Any network.
        pictures: At least two, each as `as_picture` takes it.
        labels: Their classes; by default the network's own first answers.
        transformations: Ways to move the pictures.

    Raises:
        InvarianceError: Fewer than two pictures, pictures that are all alike, or labels that do not fit.
    """
    if len(pictures) < 2:
        raise InvarianceError(f"distances count in those between pictures: give at least 2, not {len(pictures)}")
    pictures = [resize_short_side(as_picture(picture), net.preparation.short_side) for picture in pictures]
    trace = net.trace(net.prepare(pictures))
    chosen = _labels(trace, labels)
    originals = _features(trace)
    apart = {layer: _apart(layer, features) for layer, features in originals.items()}
    sweeps = tuple(_sweep(net, pictures, chosen, one, originals, apart) for one in transformations)
    return Invariance(sweeps, tuple(originals), chosen, labels is None)


def _sweep(net, pictures, labels, transformation, originals, apart) -> Sweep:
    """Take all pictures through the steps of one transformation."""
    distances = {layer: [] for layer in originals}
    probabilities, filled = [], []
    for step in transformation.steps:
        way = {transformation.way: step}
        squares = torch.stack([transformed(picture, net.preparation, **way) for picture in pictures])
        trace = net.trace(centre_square(net.preparation.normalise(squares), net.preparation.crop).to(net.device))
        for layer, features in _features(trace).items():
            moved = (features - originals[layer]).norm(dim=1, dtype=torch.float64) / apart[layer]
            distances[layer].append(moved.cpu().numpy())
        if labels is not None:
            probabilities.append(trace.logits.softmax(1).cpu().numpy()[range(len(labels)), labels])
        filled.append([_filled(picture, net.preparation, **way) for picture in pictures])
    return Sweep(
        transformation,
        {layer: np.stack(moved, axis=1) for layer, moved in distances.items()},
        np.stack(probabilities, axis=1) if probabilities else None,
        np.array(filled).T,
    )


def _features(trace: Trace) -> dict[str, Tensor]:
    """Return the rectified maps of every layer as vectors [n, features], where float64 exists: on the processor."""
    return {layer: stage.maps.flatten(1).cpu() for layer, stage in trace.stages.items()}


def _apart(layer: str, features: Tensor) -> Tensor:
    """Return each picture's mean distance from the others, [n]."""
    apart = torch.cdist(features, features, compute_mode=EXACT).double().sum(1) / (len(features) - 1)
    if not apart.all():
        raise InvarianceError(f"the pictures have the same features in {layer}; give pictures that differ")
    return apart


def _labels(trace: Trace, labels: Sequence[int] | None) -> tuple[int, ...] | None:
    """Return the classes to follow: the given ones, else the network's first answers; None without a classifier."""
    n, spec = len(trace.x), trace.net.spec
    if trace.logits is None:
        if labels is not None:
            raise InvarianceError(f"{spec.name} has no classifier here; leave the labels out")
        return None
    if labels is None:
        return tuple(trace.logits.argmax(1).tolist())
    if len(labels) != n or not all(0 <= label < spec.classes for label in labels):
        raise InvarianceError(
            f"{n} pictures take {n} labels from 0 to {spec.classes - 1}; "
            f"given {', '.join(map(str, labels)) or 'none'}"
        )
    return tuple(int(label) for label in labels)


def _filled(picture, preparation: Preparation, **way: float) -> float:
    """Return the share of the view that lies beyond the picture's edge."""
    whole = resize_short_side(as_picture(picture), preparation.short_side)
    grid = centre_square(_sources(whole, preparation, **way)[0].permute(2, 0, 1), preparation.crop)
    return float((grid.abs() > 1).any(0).double().mean())


def _sources(whole: Tensor, preparation: Preparation, shift=0.0, scale=1.0, turn=0.0) -> Tensor:
    """Return where each pixel of the square lies in the picture: [1, side, side, 2], x and y from -1 to 1."""
    side, (height, width) = preparation.short_side, whole.shape[-2:]
    c, s = (side * f(radians(turn)) / scale for f in (cos, sin))
    left, top = (2 * ((n - side) // 2) + side for n in (width, height))
    across = [c / width, s / width, left / width - 1]
    down = [-s / height, c / height, (top - 2 * shift * preparation.crop) / height - 1]
    return F.affine_grid(torch.tensor([[across, down]]), [1, 3, side, side], align_corners=False)


# Invariance: how features and answer follow a picture that is moved, enlarged or turned.


@dataclass(frozen=True)
class Robustness:
    """What transformations do to some pictures.

    Attributes:
        found: Distances and probabilities, step by step.
        views: By name of the transformation: [pictures, 4] uint8 [h, w, 3], the view at four of its steps.
        names: Of the pictures.
        by_layer: Mean distances of all layers, beside those of the same network with random weights.
        basis: What the distances count in, whose probability is followed, and what fills the view.
        source: What it was computed from.
    """

    found: Invariance
    views: dict[str, list[list[np.ndarray]]]
    names: list[str]
    by_layer: Table
    basis: Note
    source: Source


def measure(profile: str, pictures: str = "", network: str = "", count: int = 5, seed: int = 0) -> Robustness:
    """Translate, scale and rotate pictures; follow features and answer (the arXiv version's figure, as recalled).

    Args:
        profile: `smoke`, `tiny` or `paper`.
        pictures: A data set; the profile's by default.
        network: Weights; the profile's by default.
        count: How many pictures, from classes that lie evenly in its list; the paper shows five.
        seed: Of the random weights that the network is compared with.

    Raises:
        ZfnetError: Unknown profile or data set, or another number of pictures than it can give.
    """
    chosen = opened(profile, pictures, network, whole=True)
    net, dataset = chosen.net, chosen.dataset
    rows = spread(dataset, count)
    shown = [dataset[row].picture for row in rows]
    known = not dataset.multilabel and len(dataset.classes) == net.spec.classes
    found = invariance(net, shown, [int(dataset.labels[row]) for row in rows] if known else None)
    untrained = invariance(ConvNet(net.spec, net.preparation, seed).eval(), shown)
    return Robustness(
        found,
        {sweep.transformation.name: _views(net, shown, sweep.transformation) for sweep in found.sweeps},
        [dataset.names[row] for row in rows],
        _by_layer(found, untrained),
        _basis(net, found),
        chosen.source(seed),
    )


def spread(dataset: Dataset, count: int) -> list[int]:
    """Return the first picture of each of `count` classes that lie evenly in the list.

    Where there are fewer classes, the pictures themselves are taken evenly.

    Raises:
        ZfnetError: More pictures than there are.
    """
    if not 1 <= count <= len(dataset):
        raise ZfnetError(f"{dataset.name} has {len(dataset)} pictures; choose 1 to {len(dataset)}, not {count}")
    labels = dataset.labels.argmax(1) if dataset.multilabel else dataset.labels
    _, first = np.unique(labels, return_index=True)
    rows = first if count <= len(first) else np.arange(len(dataset))
    return rows[np.arange(count) * len(rows) // count].tolist()


def _views(net: ConvNet, pictures, transformation: Transformation) -> list[list[np.ndarray]]:
    """Return what the network sees at four steps, evenly from the first to the last."""
    preparation, steps = net.preparation, transformation.steps
    some = [steps[place] for place in np.linspace(0, len(steps) - 1, 4).round().astype(int)]
    squares = [[transformed(one, preparation, **{transformation.way: step}) for step in some] for one in pictures]
    return [[centre_square(square, preparation.crop).permute(1, 2, 0).numpy() for square in row] for row in squares]


def _by_layer(found: Invariance, untrained: Invariance) -> Table:
    columns, rows = {"layer": "Layer"}, [{"layer": layer} for layer in found.layers]
    for ours, theirs in zip(found.sweeps, untrained.sweeps, strict=True):
        name = ours.transformation.name
        columns |= {name: name.capitalize(), f"{name} random": "… with random weights"}
        for row in rows:
            row[name] = round(float(ours.distances[row["layer"]].mean()), 3)
            row[f"{name} random"] = round(float(theirs.distances[row["layer"]].mean()), 3)
    return Table(columns, rows)


def _basis(net: ConvNet, found: Invariance) -> Note:
    """Say what the numbers mean."""
    top = found.ends[1]
    followed = (
        f"There is no classifier here: {top} is the highest layer, and there are no probabilities."
        if found.labels is None
        else "The probability is that of the network's own first answer to the picture as it is."
        if found.answered
        else "The probability is that of the picture's class."
    )
    filled = 100 * max(sweep.filled.max() for sweep in found.sweeps)
    return Note(
        f"Distances are shares of the picture's mean distance from the other pictures. {followed} "
        f"Up to {filled:.0f} % of a view lie beyond the picture's edge and are filled with its mirror image."
    )


# Features and answers while pictures are moved, enlarged and turned (the arXiv version's figure, as recalled).

STYLES = (
    (BLUE, "-"),
    (VERMILION, "--"),
    (GREEN, "-."),
    (ORANGE, ":"),
    (PURPLE, (0, (5, 1, 1, 1, 1, 1))),
    (SKY, "-"),
)
"""Of the pictures, in turn."""
THUMB, GAP, BAR = 76, 6, 10
"""Pixels of a small picture's side, between them, and of the bar in the colour of its line."""


def sweeps(found: Sequence, ends: tuple[str, str], views: Mapping[str, Sequence[Sequence[np.ndarray]]]) -> Figure:
    """Draw for each transformation what the network sees, distances at two layers, and the class's probability.

    Args:
        found: `invariance.Sweep`s.
        ends: The lowest and the highest layer.
        views: By name of the transformation: for each picture some views, uint8 [h, w, 3].

    Raises:
        FigureError: More pictures than can be told apart.
    """
    pictures = len(found[0].filled)
    if pictures > len(STYLES):
        raise FigureError(f"{len(STYLES)} pictures can be told apart; given {pictures}")
    curves = 2 if found[0].probabilities is None else 3
    figure = Figure(0.3 + 2.45 * len(found))
    panels = figure.subplots(len(found), 1 + curves, squeeze=False, width_ratios=[0.37 * curves, *[1] * curves])
    highest = max(1.0, *(sweep.distances[layer].max() for sweep in found for layer in ends))
    for line, sweep in zip(panels, found, strict=True):
        _pictures(line[0], views[sweep.transformation.name], sweep.transformation.name)
        drawn = [(f"{layer}: distance", sweep.distances[layer], highest) for layer in ends]
        drawn += [("probability", sweep.probabilities, 1.0)][: curves - 2]
        for axes, (title, values, top) in zip(line[1:], drawn, strict=True):
            for own, (colour, style) in zip(values, STYLES, strict=False):
                axes.plot(sweep.transformation.steps, own, color=colour, linestyle=style, linewidth=1.5)
            axes.set_ylim(-0.04, 1.04 * top)
            _label(axes, title, sweep.transformation.unit)
    figure.tight_layout()
    return figure


def _pictures(axes, views: Sequence[Sequence[np.ndarray]], title: str) -> None:
    """Set the views of each picture in a row, after a bar in its colour."""
    for row, (own, (colour, style)) in enumerate(zip(views, STYLES, strict=False)):
        top = row * (THUMB + GAP)
        axes.plot([-BAR, -BAR], [top, top + THUMB], color=colour, linestyle=style, linewidth=2.4)
        for column, view in enumerate(own):
            left = column * (THUMB + GAP)
            small = Image.fromarray(require_picture(view)).resize((THUMB, THUMB), Image.Resampling.LANCZOS)
            axes.imshow(np.asarray(small), extent=(left, left + THUMB, top + THUMB, top))
    side = THUMB + GAP
    axes.set(xlim=(-2 * BAR, side * len(views[0])), ylim=(side * len(views), -GAP), aspect="equal")
    axes.set_axis_off()
    axes.set_anchor("W")
    axes.set_title(title, fontsize=NORMAL, loc="left")


def _label(axes, title: str, unit: str) -> None:
    axes.set_title(title, fontsize=NORMAL, loc="left")
    axes.set_xlabel(unit, fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)
    if unit == "degrees":
        axes.xaxis.set_major_locator(MultipleLocator(90))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)
