"""What the strongest units of one map have in common (section 4, Fig. 2), in numbers."""

from __future__ import annotations

from math import log2
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.color import rgb2gray
from skimage.feature import hog
from skimage.transform import resize
from torch import Tensor
from torch.nn import functional as F

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
