"""Transfer (sections 5.2 and 5.3): frozen features, the folds, linear classifiers on them, and their scores.

Features are computed once and kept in parts, float16, in folders named by what they depend on.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from skimage.feature import hog
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..architecture import Conv
from ..datasets import Dataset
from ..datasets.fetch import require_room
from ..files import DamagedError, UnwritableError, ZfnetError, check, data_root, notice, storing
from ..images import centre_square, resize_short_side
from ..network import ConvNet, pooled
from ..weights import fingerprint

PART, BATCH = 512, 32
"""Pictures in a part, and pictures computed at once."""

MOST = {"caltech-101": 30, "caltech-256": 60, "mini-imagenet-novel": 60, "shapes-transfer": 60}
"""Training pictures a class at most, by data set (Tables 3 and 4)."""

DECAYS = (1e-3, 1e-4, 1e-5, 1e-6)
"""Weight decays of the softmax to begin with; a fifth of the training pictures chooses, among them or beyond."""

HOG = {"orientations": 9, "pixels_per_cell": (8, 8), "cells_per_block": (2, 2), "block_norm": "L2-Hys"}

# An extractor has a name, a key of all that its features depend on, and layers; called with uint8 pictures
# [3, h, w] it returns float32 [n, d] by layer.


class NetworkFeatures:
    """A network's layers, rectified, after pooling and normalisation, flattened (section 5.3)."""

    def __init__(self, name: str, net: ConvNet, layers: Sequence[str] = ()):
        self.name, self.net = name, net
        self.layers = tuple(layers or (layer.name for layer in net.layers_upto()))
        for layer in self.layers:
            net.layers_upto(layer)  # an unknown layer is named here
        self.key = fingerprint(net, "pooled")

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return float32 [n, d] by layer."""
        order, found = [layer.name for layer in self.net.layers_upto()], {}
        trace = self.net.trace(self.net.prepare(pictures), max(self.layers, key=order.index))
        for layer in self.layers:
            entry, output = self.net.spec[layer], trace[layer].output
            if isinstance(entry, Conv) and not entry.pool:  # given layer 5's, layers are compared at as many places
                output, _ = pooled(self.net.spec.convs[-1], output)
            found[layer] = output.flatten(1).cpu()
        return found


class Control:
    """What features must beat: `pixels`, small and less their mean, or `hog` (Dalal & Triggs), made by hand."""

    def __init__(self, name: str):
        self.name, self.layers, self.side, self.settings = name, (name,), 32, {}
        if name == "hog":
            self.side, self.settings = 112, HOG
        self.key = f"{name} {self.side} {self.settings or ''}".rstrip()

    def __call__(self, pictures: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return float32 [n, 3 * 32 * 32], or [n, 6084] of `hog`."""
        squares = torch.stack([centre_square(resize_short_side(each, self.side), self.side) for each in pictures])
        if self.name == "hog":
            found = [hog(square.permute(1, 2, 0).numpy(), channel_axis=-1, **self.settings) for square in squares]
            return {"hog": torch.from_numpy(np.stack(found)).float()}
        small = squares.flatten(1).float()
        return {"pixels": small - small.mean(1, keepdim=True)}


@dataclass(frozen=True)
class LayerFeatures:
    """One layer's features of all pictures of a data set, in parts on the disk."""

    folder: Path
    count: int

    def file(self, start: int) -> Path:
        """Return where the part lies that begins with a picture."""
        return self.folder / f"{start:07d}.npy"

    def parts(self) -> Iterator[Tensor]:
        """Yield float32 [at most 512, d], each picture's features of length 1."""
        for start in range(0, self.count, PART):
            yield F.normalize(torch.from_numpy(np.load(self.file(start))).float())

    def kernel(self) -> Tensor:
        """Return the inner products of all pairs of pictures, float32 [count, count], two parts at a time."""
        result = torch.empty(self.count, self.count)
        for i, rows in enumerate(self.parts()):
            above = slice(i * PART, i * PART + len(rows))
            for j, columns in zip(range(i + 1), self.parts(), strict=False):
                beside = slice(j * PART, j * PART + len(columns))
                block = rows @ columns.T
                result[above, beside], result[beside, above] = block, block.T
        return result


def extract(extractor, dataset: Dataset) -> dict[str, LayerFeatures]:
    """Compute the features of all pictures by layer, or go on where an earlier attempt stopped."""
    try:
        return _extract(extractor, dataset, data_root() / "features")
    except UnwritableError as error:
        notice(f"{error}; these features are not kept")
        return _extract(extractor, dataset, Path(_scratch().name))


@cache
def _scratch() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory()


def _extract(extractor, dataset: Dataset, root: Path) -> dict[str, LayerFeatures]:
    found = {}
    for layer in extractor.layers:
        facts = json.dumps([extractor.key, dataset.name, dataset.split, dataset.fingerprint, layer])
        folder = root / hashlib.sha256(facts.encode()).hexdigest()[:16]
        found[layer] = LayerFeatures(folder, len(dataset))
    starts = range(0, len(dataset), PART)
    missing = [start for start in starts if not all(_is_whole(layer.file(start)) for layer in found.values())]
    for start in tqdm(missing, f"{extractor.name} on {dataset.name}", unit="part", disable=not missing):
        end = min(start + PART, len(dataset))
        computed: dict[str, list[Tensor]] = {layer: [] for layer in found}
        for first in range(start, end, BATCH):
            pictures = [dataset[i].picture for i in range(first, min(first + BATCH, end))]
            for layer, values in extractor(pictures).items():
                rms = values.square().mean(1, keepdim=True).sqrt().clamp(min=1e-12)  # within float16's range
                computed[layer].append((values / rms).clamp(-65504, 65504).half())
        for layer, parts in computed.items():
            values, path = torch.cat(parts).numpy(), found[layer].file(start)
            require_room(path.parent, 2 * values.nbytes, f"the next part of {layer}'s features")
            with storing(path) as temporary, temporary.open("wb") as file:
                np.save(file, values)
    return found


def _is_whole(path: Path) -> bool:
    try:
        check(path)
        return path.exists()
    except DamagedError as error:
        notice(f"{path} is damaged ({error}); its features are computed again")
        return False


class Fold(NamedTuple):
    """One split: int64 [classes, most] training pictures in the order in which they are taken, and [n] tested."""

    rows: np.ndarray
    test: np.ndarray

    def train(self, each: int) -> np.ndarray:
        """Return the first `each` training pictures of every class; fewer are always part of more."""
        if not 1 <= each <= self.rows.shape[1]:
            raise ZfnetError(f"these folds hold 1 to {self.rows.shape[1]} training pictures a class; given {each}")
        return self.rows[:, :each].ravel()


def protocol_folds(
    dataset: Dataset, most: int = 0, test: int = 50, count: int = 5, seed: int = 0, first: int = 0
) -> list[Fold]:
    """Draw training pictures, `most` a class, and up to `test` of the others at random, as everybody does (5.2)."""
    most = most or MOST[dataset.name]
    members = [np.flatnonzero(dataset.labels == label) for label in range(len(dataset.classes))]
    for name, rows in zip(dataset.classes, members, strict=True):
        if len(rows) <= most:
            raise ZfnetError(
                f"{name} has {len(rows)} pictures, and {most} for training leave none to test (the protocol tests "
                f"up to {test}); ask for at most {len(rows) - 1} a class, or leave the class out"
            )
    folds = []
    for fold in range(first, first + count):
        draws = [np.random.default_rng([seed, fold, label]) for label in range(len(members))]
        shuffled = [rows[rng.permutation(len(rows))] for rows, rng in zip(members, draws, strict=True)]
        tested = np.concatenate([rows[most : most + test] for rows in shuffled])
        folds.append(Fold(np.stack([rows[:most] for rows in shuffled]), tested))
    return folds


# Linear classifiers. A layer may have far more features than there are training pictures, and a linear classifier
# sees nothing but inner products: it works in coordinates of the training pictures' span, exact, and few.


def coordinates(kernel: Tensor, train: np.ndarray, test: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return training [n, d] and test pictures [m, d] whose inner products are the kernel's, [all, all]."""
    train, test = torch.from_numpy(train), torch.from_numpy(test)
    inner = kernel[train][:, train].double()
    inner.diagonal().add_(1e-4)  # pictures that resemble each other to rounding do no harm then
    below = torch.linalg.cholesky(inner)
    across = torch.linalg.solve_triangular(below, kernel[train][:, test].double(), upper=False)
    return below.float(), across.T.float().contiguous()


def fit_softmax(
    x: Tensor, targets: Tensor, decay: float, several: bool = False, start: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Train weights [classes, d] and biases of a softmax on frozen features [n, d] by L-BFGS (section 5.2)."""
    # targets are a distribution over classes; with `several`, 1 for each class that is present
    weight, bias = start or (torch.zeros(targets.shape[1], x.shape[1]), torch.zeros(targets.shape[1]))
    weight, bias = (value.clone().requires_grad_() for value in (weight, bias))
    settings = {"tolerance_change": 1e-6, "history_size": 10, "line_search_fn": "strong_wolfe"}
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=100, **settings)

    def closure() -> Tensor:
        optimiser.zero_grad()
        logits = F.linear(x, weight, bias)
        if several:
            loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).mean()
        else:
            loss = F.cross_entropy(logits, targets)
        loss = loss + decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return weight.detach(), bias.detach()


def choose_decay(x: Tensor, targets: Tensor, score: Callable[[Tensor, np.ndarray], float], several=False) -> float:
    """Return the weight decay that every fifth training picture likes best; of equals the one tried first.

    Past the first or last of `DECAYS`, if it is the best, it goes on tenfold for as long as that is better.
    """
    # Those of folds come class by class, so that every class with five or more has its share. Of one picture a
    # class none is left to learn from: all decays score 0, and the largest is taken.
    chooses = np.arange(len(x)) % 5 == 4
    learn, judge = np.flatnonzero(~chooses), np.flatnonzero(chooses)
    if not len(judge):
        return DECAYS[0]

    def tried(decay: float, start=None) -> tuple[float, float, tuple[Tensor, Tensor]]:
        found = fit_softmax(x[learn], targets[learn], decay, several, start)
        return score(F.linear(x[judge], *found), judge), decay, found

    path = [tried(DECAYS[0])]
    for decay in DECAYS[1:]:
        path.append(tried(decay, path[-1][-1]))
    best = max(path, key=itemgetter(0))
    further = {DECAYS[0]: 10, DECAYS[-1]: 0.1}.get(best[1])
    while further and (beyond := tried(best[1] * further, best[-1]))[0] > best[0]:
        best = beyond
    return best[1]


def fit_labels(x: Tensor, labels: np.ndarray, classes: int) -> tuple[Tensor, Tensor, float]:
    """Train a softmax on labels [n]: weights, biases, and the weight decay with the best accuracy over classes."""
    targets = F.one_hot(torch.from_numpy(labels), classes).float()

    def score(logits: Tensor, judged: np.ndarray) -> float:
        return per_class_accuracy(labels[judged], logits.argmax(1).numpy())

    decay = choose_decay(x, targets, score)
    return *fit_softmax(x, targets, decay), decay


def fit_svm(x: Tensor, labels: np.ndarray):
    """Train a linear support vector machine with C = 1, one class against the rest (section 5.3)."""
    from sklearn.svm import LinearSVC  # takes a second

    return LinearSVC(dual=True, random_state=0, max_iter=2000).fit(x.numpy(), labels)


def per_class_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean over classes of the share of right answers, in percent (section 5.2)."""
    right = labels == predicted
    return 100 * float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def average_precision(present: np.ndarray, scores: np.ndarray) -> float:
    """Return VOC's average precision in percent: the mean over all recalls of the best precision from there on."""
    counted = present != 0  # 1 is present, -1 absent, 0 too hard to count
    order = np.argsort(-scores[counted], kind="stable")
    hits = present[counted][order] == 1
    if not hits.any():
        raise ValueError("average precision needs a picture in which the class is present")
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return 100 * float(best[hits].mean())


def mean_precision(labels: np.ndarray, scores: np.ndarray, classes: Sequence[int]) -> float:
    """Return the average precision in percent, its mean over classes, each present in a picture."""
    return float(np.mean([average_precision(labels[:, c], scores[:, c]) for c in classes]))


def precision_gain(
    labels: np.ndarray, some: np.ndarray, others: np.ndarray, classes: Sequence[int]
) -> tuple[float, float]:
    """Return by how many points the mean average precision of some scores exceeds that of others, and the error."""
    rng, n = np.random.default_rng(0), len(labels)
    gain, *drawn = (
        mean_precision(labels[rows], some[rows], classes) - mean_precision(labels[rows], others[rows], classes)
        for rows in [np.arange(n), *(rng.integers(0, n, n) for _ in range(300))]
    )
    return gain, float(np.std(drawn, ddof=1))
