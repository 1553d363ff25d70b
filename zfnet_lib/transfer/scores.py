"""How predictions are scored: accuracy averaged over classes, and VOC's average precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
