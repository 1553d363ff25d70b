"""Which pictures are trained on and which are tested: the protocol of section 5.2, the same for everybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..datasets import Dataset
from ..files import ZfnetError

MOST = {"caltech-101": 30, "caltech-256": 60, "mini-imagenet-novel": 60, "shapes-transfer": 60}
"""Training pictures a class at most, by data set (Tables 3 and 4)."""


class FoldError(ZfnetError, ValueError):
    """Folds that the pictures at hand do not allow."""


@dataclass(frozen=True)
class Fold:
    """One split of a data set into training and test pictures.

    Attributes:
        rows: int64 [classes, most], the training pictures of each class in the order in which they are taken.
        test: int64 [n], the test pictures, class by class.
    """

    rows: NDArray[np.int64]
    test: NDArray[np.int64]

    def train(self, each: int) -> NDArray[np.int64]:
        """Return the first `each` training pictures of every class; fewer are always part of more."""
        if not 1 <= each <= self.rows.shape[1]:
            raise FoldError(f"these folds hold 1 to {self.rows.shape[1]} training pictures a class; given {each}")
        return self.rows[:, :each].ravel()


def draw_folds(
    labels: NDArray[np.int64], classes: Sequence[str], most: int, test: int = 50, count: int = 5, seed: int = 0
) -> list[Fold]:
    """Draw training and test pictures at random, class by class (section 5.2).

    Each class is shuffled by the seed, the fold and its own number; the first `most` pictures are for training
    and up to `test` of the others are tested, whatever number of them is trained on.

    Args:
        labels: int64 [n].
        classes: Their names.
        most: Training pictures a class at most: 30 for Caltech-101, 60 for Caltech-256.
        test: Test pictures a class at most.
        count: Folds.
        seed: Of the draw.

    Raises:
        FoldError: A class has no picture left to test.

    Example:
        >>> fold, = draw_folds(np.array([0, 0, 0, 1, 1, 1, 1]), ("cat", "dog"), most=2, count=1)
        >>> len(fold.train(2)), len(fold.test)
        (4, 3)
    """
    members = [np.flatnonzero(labels == label) for label in range(len(classes))]
    for name, rows in zip(classes, members, strict=True):
        if len(rows) <= most:
            raise FoldError(
                f"{name} has {len(rows)} pictures, and {most} for training leave none to test (the protocol tests "
                f"up to {test}); ask for at most {len(rows) - 1} a class, or leave the class out"
            )
    return [_drawn(members, most, test, (seed, fold)) for fold in range(count)]


def protocol_folds(dataset: Dataset, most: int = 0, count: int = 5) -> list[Fold]:
    """Return the folds that everybody uses of a data set: seed 0, up to 50 test pictures a class.

    Args:
        dataset: With one label a picture.
        most: Training pictures a class at most; by default the protocol's.
        count: Folds.
    """
    return draw_folds(dataset.labels, dataset.classes, most or MOST[dataset.name], count=count)


def _drawn(members: Sequence[NDArray[np.int64]], most: int, test: int, seed: tuple[int, int]) -> Fold:
    orders = [
        np.random.default_rng([*seed, label]).permutation(len(rows)).astype(np.int64)
        for label, rows in enumerate(members)
    ]
    shuffled = [rows[order] for rows, order in zip(members, orders, strict=True)]
    return Fold(
        np.stack([rows[:most] for rows in shuffled]),
        np.concatenate([rows[most : most + test] for rows in shuffled]),
    )
