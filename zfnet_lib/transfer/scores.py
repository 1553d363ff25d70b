"""How predictions are scored: accuracy averaged over classes, and VOC's average precision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DRAWS = 300
"""Of the bootstrap."""


def per_class_accuracy(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Return the mean over classes of the share of right answers, in percent (section 5.2).

    Args:
        labels: int64 [n], what is right.
        predicted: int64 [n], what was answered.

    Example:
        >>> per_class_accuracy(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 0, 0]))
        50.0
    """
    right = labels == predicted
    return 100 * float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def average_precision(present: NDArray[np.int8], scores: NDArray[np.floating]) -> float:
    """Return VOC's average precision in percent: the area under the curve of the best precision at each recall.

    As the development kit defines it since 2010: precision is made to fall with recall, and summed over all
    recalls that occur.

    Args:
        present: int8 [n]: 1 present, -1 absent, 0 too hard to count.
        scores: [n], how sure the classifier is.

    Raises:
        ValueError: The class occurs in no picture that counts.

    Example:
        >>> average_precision(np.array([1, -1, 1, -1]), np.array([0.9, 0.8, 0.7, 0.1]))
        83.33333333333333
    """
    counted = present != 0
    order = np.argsort(-scores[counted], kind="stable")
    hits = present[counted][order] == 1
    if not hits.any():
        raise ValueError("average precision needs a picture in which the class is present")
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return 100 * float(best[hits].mean())


def mean_precision(labels: NDArray[np.int8], scores: NDArray[np.floating], classes: Sequence[int]) -> float:
    """Return the average precision in percent, its mean over classes.

    Args:
        labels: int8 [n, classes], as `average_precision` takes them.
        scores: [n, classes].
        classes: Over which the mean is taken; each is present in a picture.
    """
    return float(np.mean([average_precision(labels[:, c], scores[:, c]) for c in classes]))


def precision_gain(
    labels: NDArray[np.int8],
    some: NDArray[np.floating],
    others: NDArray[np.floating],
    classes: Sequence[int],
    seed: int = 0,
) -> tuple[float, float]:
    """Return how much higher the mean average precision of some scores is than that of others, and the error.

    Args:
        labels: int8 [n, classes].
        some, others: [n, classes], two ways to score the same pictures.
        classes: Over which the mean is taken; each is shown by many pictures, since draws must show it too.
        seed: Of the bootstrap.

    Returns:
        The gain in points, and its standard error by a bootstrap over the pictures.

    Example:
        >>> present, good = np.tile([[1], [-1]], (20, 1)), np.tile([[1.0], [0.0]], (20, 1))
        >>> gain, error = precision_gain(present, good, -good, [0])
        >>> gain > 40, 0 < error < 10, precision_gain(present, good, good, [0])
        (True, True, (0.0, 0.0))
    """
    rng = np.random.default_rng(seed)

    def gain(rows: NDArray[np.int64]) -> float:
        one, other = (mean_precision(labels[rows], scores[rows], classes) for scores in (some, others))
        return one - other

    drawn = [gain(rng.integers(0, len(labels), len(labels))) for _ in range(DRAWS)]
    return gain(np.arange(len(labels))), float(np.std(drawn, ddof=1))
