"""Errors as the paper reports them: top 1 and top 5, one view or ten, one network or several (Tables 1 and 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .batches import labels_of, squares_of
from .files import ZfnetError
from .images import centre_square, ten_views
from .machine import threads
from .network import Network

BATCH = 64


@dataclass(frozen=True)
class Errors:
    """Errors over a data set, in percent."""

    top1: float  # share of the pictures whose label is not the most probable class
    top5: float  # … not among the five most probable
    per_class: np.ndarray  # float64 [classes], at top 1; NaN for a class without pictures
    n: int  # pictures
    views: int  # 1 or 10

    def extremes(self, k: int) -> tuple[list[int], list[int]]:
        """Return the k classes with the lowest error, lowest first, and the k with the highest, highest first."""
        order = [int(i) for i in np.argsort(self.per_class, kind="stable") if np.isfinite(self.per_class[i])]
        return order[:k], order[: -k - 1 : -1]


def errors(
    nets: Network | Sequence[Network],
    data,
    views: int = 1,
    *,
    rows: Sequence[int] | None = None,
    progress: bool = False,
) -> Errors:
    """Return the errors of a network, or of several whose probabilities are averaged (section 3; Table 1).

    Networks compute in the precision of their weights and are left in evaluation mode: dropout is off. Views are 1
    (the centre) or 10 (the corners, the centre and their mirrors); `rows` are all pictures by default. `data` has
    `len`, `[i] -> (uint8 picture, label)`, `labels` and `name`.
    """
    return summary(tallies(nets, data, views, rows=rows, progress=progress), views)


def tallies(nets, data, views: int = 1, *, rows: Sequence[int] | None = None, progress: bool = False) -> np.ndarray:
    """Return how many pictures each class has, and how many are wrong at top 1 and at top 5: int64 [classes, 3]."""
    nets = [net.eval() for net in ([nets] if isinstance(nets, Network) else nets)]
    if views not in (1, 10):
        raise ZfnetError(f"views = {views}; the paper's are 1 (the centre) or 10 (corners, centre, mirrors)")
    classes, *others = sorted({net.classes for net in nets}) or [0]
    if nets and not (others or classes):
        raise ZfnetError(f"{nets[0].name} has no classifier here; evaluate a network that has one")
    if others or not classes:
        counts = ", ".join(map(str, [classes, *others])) if nets else "no"
        raise ZfnetError(f"networks of {counts} classes cannot be evaluated together; choose those of one kind")
    labels, device = labels_of(data, classes), nets[0].device
    chosen = torch.arange(len(labels)) if rows is None else torch.as_tensor(rows)
    if chosen.dtype == torch.bool:
        raise ZfnetError("rows are the numbers of pictures, no mask; give those where it is true")
    chosen = chosen.long()  # none at all would be floats

    def ranked(part: Tensor) -> Tensor:
        first, *others = (probabilities(net, squares_of(data, part, net.preparation), views) for net in nets)
        total = sum(others, first)
        if not total.isfinite().all():
            raise ZfnetError(f"the probabilities of {nets[0].name} are not finite; train it again")
        return ranks(total / len(nets), labels[part])

    tally, parts = np.zeros((classes, 3), np.int64), chosen.split(BATCH) if len(chosen) else ()
    most = 16 if device.type == "cpu" else 4
    with threads(1 if any(net.kept for net in nets) else min(torch.get_num_threads(), most)) as pool:
        found = tqdm(pool.map(ranked, parts), total=len(parts), unit=" batches", disable=not progress)
        for part, rank in zip(parts, found, strict=True):
            np.add.at(tally, labels[part].numpy(), np.stack([rank >= k for k in (0, 1, 5)], axis=1))
    return tally


def summary(tally: np.ndarray, views: int = 1) -> Errors:
    """Return the errors that tallies amount to."""
    n, wrong1, wrong5 = tally.sum(0).tolist()
    if not n:
        raise ZfnetError("there are no pictures to evaluate on; choose another data set or split")
    with np.errstate(invalid="ignore"):
        per_class = 100 * tally[:, 1] / tally[:, 0]
    return Errors(100 * wrong1 / n, 100 * wrong5 / n, per_class, n, views)


def ranks(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return how many classes come before the label, int64 [n]; of equal ones the earlier class comes first."""
    own = probabilities.gather(1, labels[:, None])
    earlier = torch.arange(probabilities.shape[1]) < labels[:, None]
    return ((probabilities > own) | ((probabilities == own) & earlier)).sum(1)


@torch.inference_mode()
def probabilities(net: Network, squares: Tensor, views: int = 1) -> Tensor:
    """Return the softmax of each square, averaged over its views (section 3): float32 [n, classes], on the CPU."""
    crop = net.preparation.crop
    x = net.preparation.normalise(squares.to(net.device))
    x = ten_views(x, crop).flatten(0, 1) if views == 10 else centre_square(x, crop)
    logits = net(x.to(net.dtype, memory_format=torch.channels_last)).float()
    return logits.softmax(1).unflatten(0, (views, len(squares))).mean(0).cpu()
