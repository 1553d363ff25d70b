"""Linear classifiers on frozen features: a softmax and a support vector machine.

A layer may have far more features than there are training pictures. A linear classifier sees nothing but inner
products, so both work in coordinates of the training pictures' span: exact, and as many as there are pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from sklearn.svm import LinearSVC

STEPS = 100
"""Of L-BFGS, at most."""

STILL = 1e-6
"""It ends where a step changes the loss by less."""

DECAYS = (1e-3, 1e-4, 1e-5, 1e-6)
"""Weight decays of the softmax among which a part of the training fold chooses."""

PART = 5
"""One training picture in so many chooses; they come class by class, so every class has its share."""

JITTER = 1e-4
"""Added to the squared lengths of 1: pictures that resemble each other to rounding do no harm then."""


@dataclass(frozen=True)
class Coordinates:
    """Training and test pictures in the span of the training pictures.

    Attributes:
        train: float32 [n, d].
        test: float32 [m, d].
    """

    train: Tensor
    test: Tensor


def coordinates(kernel: Tensor, train: NDArray[np.int64], test: NDArray[np.int64]) -> Coordinates:
    """Return coordinates whose inner products are the kernel's.

    Args:
        kernel: float [n, n], the inner products of all pictures.
        train, test: int64, which of them.

    Example:
        >>> x = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.6, 0.8]])
        >>> found = coordinates(x @ x.T, np.array([0, 1]), np.array([2]))
        >>> (found.test @ found.train.T).round(decimals=4)
        tensor([[0.0000, 0.4800]])
    """
    train, test = torch.from_numpy(train), torch.from_numpy(test)
    inner = kernel[train][:, train].double()
    inner.diagonal().add_(JITTER)
    below = torch.linalg.cholesky(inner)
    across = torch.linalg.solve_triangular(below, kernel[train][:, test].double(), upper=False)
    return Coordinates(below.float(), across.T.float().contiguous())


Softmax = tuple[Tensor, Tensor]
"""Weights [classes, d] and biases [classes]."""


def fit_softmax(
    x: Tensor, targets: Tensor, decay: float, several: bool = False, start: Softmax | None = None
) -> Softmax:
    """Train a softmax on frozen features, all pictures at once, by L-BFGS (section 5.2).

    Args:
        x: float32 [n, d].
        targets: float32 [n, classes], a distribution a picture; with `several` 1 for each class that is present.
        decay: Weight decay.
        several: A logistic loss a class instead: pictures may show several objects.
        start: Where to begin, such as the softmax of another decay; zeros by default.
    """
    weight, bias = start or (torch.zeros(targets.shape[1], x.shape[1]), torch.zeros(targets.shape[1]))
    weight, bias = (value.clone().requires_grad_() for value in (weight, bias))
    loss_of = _logistic if several else F.cross_entropy
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=STEPS, tolerance_change=STILL, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = loss_of(F.linear(x, weight, bias), targets) + decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return weight.detach(), bias.detach()


def _logistic(logits: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).mean()


def choose_decay(
    x: Tensor, targets: Tensor, score: Callable[[Tensor, NDArray[np.int64]], float], several: bool = False
) -> float:
    """Return the weight decay that a part of the training pictures likes best; of equals the larger.

    Args:
        x, targets, several: As `fit_softmax` takes them.
        score: Of logits [m, classes] for the pictures with these numbers; higher is better.
    """
    chooses = np.arange(len(x)) % PART == PART - 1
    learn, judge = np.flatnonzero(~chooses), np.flatnonzero(chooses)
    if not len(judge):
        return DECAYS[0]
    scores, found = [], None
    for decay in DECAYS:
        found = fit_softmax(x[learn], targets[learn], decay, several, found)
        scores.append(score(F.linear(x[judge], *found), judge))
    return DECAYS[int(np.argmax(scores))]


def fit_svm(x: Tensor, labels: NDArray[np.int64], cost: float = 1.0) -> LinearSVC:
    """Train a linear support vector machine, one class against the rest, by scikit-learn (section 5.3).

    Args:
        x: float32 [n, d].
        labels: int64 [n].
        cost: Of errors, C.
    """
    from sklearn.svm import LinearSVC

    return LinearSVC(C=cost, dual=True, random_state=0, max_iter=2000).fit(x.numpy(), labels)
