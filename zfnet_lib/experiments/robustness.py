"""Invariance: how features and answer follow a picture that is moved, enlarged or turned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..datasets import Dataset
from ..files import ZfnetError
from ..images import centre_square
from ..invariance import Invariance, Transformation, transformed
from ..invariance import invariance as measured
from ..network import ConvNet
from ..tables import Note, Table
from .setting import Source, opened


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


def invariance(profile: str, pictures: str = "", network: str = "", count: int = 5, seed: int = 0) -> Robustness:
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
    found = measured(net, shown, [int(dataset.labels[row]) for row in rows] if known else None)
    untrained = measured(ConvNet(net.spec, net.preparation, seed).eval(), shown)
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
