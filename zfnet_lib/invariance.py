"""How far features move when a picture is translated, scaled or rotated (section 6: "increasing invariance")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .files import ZfnetError
from .images import Preparation, as_picture, centre_square, resize_short_side
from .network import ConvNet, Trace

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
