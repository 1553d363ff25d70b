"""Errors as the paper reports them: top 1 and top 5, one view or ten, one network or several (Tables 1 and 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .batches import labels_of, squares_of
from .files import ZfnetError
from .images import centre_square, ten_views
from .machine import threads
from .network import ConvNet

BATCH = 64


class EvaluationError(ZfnetError, ValueError):
    """Networks that cannot be evaluated, alone or together."""


@dataclass(frozen=True)
class Errors:
    """Errors over a data set, in percent.

    Attributes:
        top1: Share of the pictures whose label is not the most probable class.
        top5: Share of those whose label is not among the five most probable.
        per_class: float64 [classes], top-1 error of each class; NaN for a class without pictures.
        n: Pictures.
        views: 1 or 10.
    """

    top1: float
    top5: float
    per_class: np.ndarray
    n: int
    views: int

    def extremes(self, k: int) -> tuple[list[int], list[int]]:
        """Return the k classes with the lowest error, lowest first, and the k with the highest, highest first."""
        order = [int(i) for i in np.argsort(self.per_class, kind="stable") if np.isfinite(self.per_class[i])]
        return order[:k], order[: -k - 1 : -1]


def errors(
    nets: ConvNet | Sequence[ConvNet],
    data,
    views: int = 1,
    *,
    rows: Sequence[int] | None = None,
    progress: bool = False,
) -> Errors:
    """Return the errors of a network, or of several whose probabilities are averaged (section 3; Table 1).

    Networks compute in the precision of their weights and are left in evaluation mode: dropout is off.

    Args:
        nets: One network, or an ensemble; architectures and preparations may differ, classes may not.
        data: A pack, or any data set of pictures and labels.
        views: 1: the centre; 10: softmax averaged over the corners, the centre, and their mirrors.
        rows: Which pictures; all by default.
        progress: Show a bar.

    Raises:
        EvaluationError: No networks, different classes, another number of views, or no pictures.
    """
    return summary(tallies(nets, data, views, rows=rows, progress=progress), views)


def tallies(nets, data, views: int = 1, *, rows: Sequence[int] | None = None, progress: bool = False) -> np.ndarray:
    """Return for each class how many pictures there are, and how many are wrong at top 1 and at top 5.

    Returns:
        int64 [classes, 3]; tallies of parts of a data set add up.
    """
    nets = [net.eval() for net in ([nets] if isinstance(nets, ConvNet) else nets)]
    classes = _classes(nets, views)
    labels = labels_of(data, classes)
    rows = torch.arange(len(labels)) if rows is None else torch.as_tensor(rows, dtype=torch.int64)
    tally = np.zeros((classes, 3), np.int64)

    def ranked(part: Tensor) -> tuple[np.ndarray, np.ndarray]:
        return labels[part].numpy(), ranks(_averaged(nets, data, part, views), labels[part]).numpy()

    for label, rank in _mapped(ranked, rows.split(BATCH), nets[0].device, progress):
        np.add.at(tally, label, np.stack([rank >= 0, rank >= 1, rank >= 5], axis=1))
    return tally


def summary(tally: np.ndarray, views: int = 1) -> Errors:
    """Return the errors that tallies amount to.

    Raises:
        EvaluationError: No pictures.
    """
    n, wrong1, wrong5 = tally.sum(0).tolist()
    if not n:
        raise EvaluationError("there are no pictures to evaluate on; choose another data set or split")
    with np.errstate(invalid="ignore"):
        per_class = 100 * tally[:, 1] / tally[:, 0]
    return Errors(100 * wrong1 / n, 100 * wrong5 / n, per_class, n, views)


def ranks(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return how many classes come before the label; of equal ones the earlier class comes first.

    Args:
        probabilities: [n, classes].
        labels: int64 [n].

    Returns:
        int64 [n].

    Example:
        >>> ranks(torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.4, 0.4]]), torch.tensor([1, 2])).tolist()
        [1, 1]
    """
    own = probabilities.gather(1, labels[:, None])
    earlier = torch.arange(probabilities.shape[1]) < labels[:, None]
    return ((probabilities > own) | ((probabilities == own) & earlier)).sum(1)


@torch.inference_mode()
def probabilities(net: ConvNet, squares: Tensor, views: int = 1) -> Tensor:
    """Return the softmax of each picture, averaged over its views (section 3).

    Args:
        net: A network with a classifier.
        squares: uint8 [n, 3, short_side, short_side], squares of its preparation.
        views: 1 or 10.

    Returns:
        float32 [n, classes], on the CPU.
    """
    weight = next(net.parameters())
    crop = net.preparation.crop
    x = net.preparation.normalise(squares.to(weight.device))
    x = ten_views(x, crop).flatten(0, 1) if views == 10 else centre_square(x, crop)
    logits = net(x.to(weight.dtype, memory_format=torch.channels_last)).float()
    return logits.softmax(1).unflatten(0, (views, len(squares))).mean(0).cpu()


def _averaged(nets: Sequence[ConvNet], data, rows: Tensor, views: int) -> Tensor:
    """Return the mean probabilities of all networks, in their order."""
    total = sum(probabilities(net, squares_of(data, rows, net.preparation), views) for net in nets)
    if not total.isfinite().all():
        raise EvaluationError(f"{nets[0].spec.name} gives probabilities that are no numbers; train it again")
    return total / len(nets)


def _mapped(run: Callable, parts: Sequence[Tensor], device: torch.device, progress: bool):
    """Yield run(part) of each part, several at a time."""
    n = min(torch.get_num_threads(), 16 if device.type == "cpu" else 4)
    with threads(n) as pool:
        yield from tqdm(pool.map(run, parts), total=len(parts), unit=" batches", disable=not progress)


def _classes(nets: Sequence[ConvNet], views: int) -> int:
    """Return the classes that all networks share."""
    if views not in (1, 10):
        raise EvaluationError(f"views = {views}; the paper's are 1 (the centre) or 10 (corners, centre, mirrors)")
    counts = {net.spec.classes for net in nets}
    if len(counts) != 1 or counts == {0}:
        raise EvaluationError(
            f"networks of {', '.join(map(str, sorted(counts))) or 'no'} classes cannot be evaluated together; "
            f"choose networks with the same classifier"
        )
    return counts.pop()
