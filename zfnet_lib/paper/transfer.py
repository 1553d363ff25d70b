"""Features of whole data sets: computed once, kept on the disk in parts, and never mistaken for others.

A part holds the features of a block of pictures, float16, each picture's scaled to a root mean square of 1. Its
folder is named by a hash of what computes them, of the pictures and of the layer: features of other weights have
another folder. Whoever stops in between goes on at the first part that is missing or damaged. Where the data folder
cannot be written they lie in a temporary one until the process ends.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.feature import hog
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..architecture import Conv
from ..datasets import Dataset
from ..files import DamagedError, UnwritableError, ZfnetError, check, data_root, notice, storing
from ..images import centre_square, resize_short_side
from ..network import ConvNet, Trace, pooled

PART, BATCH = 512, 32
"""Pictures in a part, and pictures computed at once."""


class Extractor(Protocol):
    """What makes features of pictures.

    Attributes:
        name: Of the weights, or of the control.
        key: What its features depend on.
        layers: What it gives.
    """

    name: str
    key: str
    layers: tuple[str, ...]

    def __call__(self, pictures: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return float32 [n, d] by layer for uint8 pictures [3, h, w]."""
        ...


class NetworkFeatures:
    """The layers of a network, prepared as its pre-training prepared its pictures (section 5.3).

    Rectified, after the layer's pooling and normalisation where it has them, flattened. Layers 3 and 4 have no
    pool: they are given layer 5's, or they would be compared with it at four times as many positions.

    Args:
        name: Of the weights.
        net: The network.
        layers: All that the network has by default: `conv1` … `fc7`.
    """

    def __init__(self, name: str, net: ConvNet, layers: Sequence[str] = ()):
        self.name, self.net = name, net
        self.layers = tuple(layers or (layer.name for layer in net.layers_upto()))
        for layer in self.layers:
            net.layers_upto(layer)  # an unknown layer is named here
        digest = hashlib.sha256(
            repr(("pooled", net.spec, net.preparation.short_side, net.preparation.crop)).encode()
        )
        for tensor in (*net.state_dict().values(), net.preparation.mean, net.preparation.scale):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        self.key = digest.hexdigest()

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return float32 [n, d] by layer."""
        last = max(self.layers, key=[layer.name for layer in self.net.layers_upto()].index)
        trace = self.net.trace(self.net.prepare(pictures), last)
        return {layer: self._handed_on(trace, layer).flatten(1).cpu() for layer in self.layers}

    def _handed_on(self, trace: Trace, layer: str) -> Tensor:
        entry, highest = self.net.spec[layer], self.net.spec.convs[-1]
        unpooled = isinstance(entry, Conv) and not entry.pool
        return pooled(highest, trace[layer].output)[0] if unpooled else trace[layer].output


@dataclass(frozen=True)
class LayerFeatures:
    """One layer's features of a data set.

    Attributes:
        folder: Where the parts lie.
        count: How many pictures there are.
    """

    folder: Path
    count: int

    @property
    def dimensions(self) -> int:
        """How many features a picture has."""
        return np.load(self.folder / _part(0), mmap_mode="r").shape[1]

    def parts(self) -> Iterator[Tensor]:
        """Yield float32 [at most 512, d], each picture's features of length 1."""
        for start in range(0, self.count, PART):
            part = torch.from_numpy(np.load(self.folder / _part(start))).float()
            yield part / part.norm(dim=1, keepdim=True).clamp(min=1e-12)

    def matrix(self) -> Tensor:
        """Return all features at once, float32 [count, d], each picture's of length 1."""
        return torch.cat(list(self.parts()))

    def kernel(self) -> Tensor:
        """Return the inner products of all pairs of pictures, float32 [count, count], two parts at a time."""
        result = torch.empty(self.count, self.count)
        for i, rows in enumerate(self.parts()):
            for j, columns in enumerate(self.parts()):
                if j > i:
                    break
                block = rows @ columns.T
                above, beside = i * PART, j * PART
                result[above : above + len(rows), beside : beside + len(columns)] = block
                result[beside : beside + len(columns), above : above + len(rows)] = block.T
        return result


def extract(extractor: Extractor, dataset: Dataset, progress: bool = True) -> dict[str, LayerFeatures]:
    """Compute the features of all pictures of a data set, or go on where an earlier attempt stopped.

    Args:
        extractor: What computes them.
        dataset: The pictures.
        progress: Show a progress bar.

    Returns:
        By layer, in the extractor's order.

    Raises:
        ZfnetError: A picture that cannot be read, or a full disk.
    """
    try:
        return _extracted(extractor, dataset, progress, data_root() / "features")
    except UnwritableError as error:
        notice(f"{error}; these features are not kept")
        return _extracted(extractor, dataset, progress, Path(_scratch().name))


@cache
def _scratch() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory()


def _extracted(extractor: Extractor, dataset: Dataset, progress: bool, root: Path) -> dict[str, LayerFeatures]:
    folders = {layer: root / _key(extractor, dataset, layer) for layer in extractor.layers}
    found = {layer: LayerFeatures(folder, len(dataset)) for layer, folder in folders.items()}
    starts = range(0, len(dataset), PART)
    missing = [start for start in starts if not all(_is_whole(path / _part(start)) for path in folders.values())]
    for start in tqdm(
        missing, f"{extractor.name} on {dataset.name}", unit="part", disable=not progress or not missing
    ):
        rows = range(start, min(start + PART, len(dataset)))
        for layer, values in _block(extractor, dataset, rows).items():
            _save(folders[layer] / _part(start), values)
    return found


def _is_whole(path: Path) -> bool:
    try:
        check(path)
        return path.exists()
    except DamagedError as error:
        notice(f"{path} is damaged ({error}); its features are computed again")
        return False


def _block(extractor: Extractor, dataset: Dataset, rows: range) -> dict[str, Tensor]:
    """Compute the features of some pictures: float16 [n, d] by layer."""
    computed: dict[str, list[Tensor]] = {layer: [] for layer in extractor.layers}
    for start in range(rows.start, rows.stop, BATCH):
        pictures = [dataset[i].picture for i in range(start, min(start + BATCH, rows.stop))]
        for layer, values in extractor(pictures).items():
            rms = values.square().mean(1, keepdim=True).sqrt().clamp(min=1e-12)
            computed[layer].append((values / rms).clamp(-65504, 65504).half())
    return {layer: torch.cat(values) for layer, values in computed.items()}


def _key(extractor: Extractor, dataset: Dataset, layer: str) -> str:
    facts = json.dumps([extractor.key, dataset.name, dataset.split, dataset.fingerprint, layer])
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def _part(start: int) -> str:
    return f"{start:07d}.npy"


def _save(path: Path, values: Tensor) -> None:
    free = shutil.disk_usage(next(folder for folder in path.parents if folder.exists())).free
    needed = values.numel() * values.element_size()
    if free < 2 * needed:
        raise ZfnetError(
            f"{needed / 1e6:.0f} MB of features do not fit into {path.parent}; free space, or name another folder "
            f"by ZFNET_DATA; what is computed stays"
        )
    with storing(path) as temporary, temporary.open("wb") as file:
        np.save(file, values.numpy())


# Which pictures are trained on and which are tested: the protocol of section 5.2, the same for everybody.

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


# Linear classifiers on frozen features: a softmax and a support vector machine.
#
# A layer may have far more features than there are training pictures. A linear classifier sees nothing but inner
# products, so both work in coordinates of the training pictures' span: exact, and as many as there are pictures.

if TYPE_CHECKING:
    from sklearn.svm import LinearSVC

STEPS = 100
"""Of L-BFGS, at most."""

STILL = 1e-6
"""It ends where a step changes the loss by less."""

DECAYS = (1e-3, 1e-4, 1e-5, 1e-6)
"""Weight decays of the softmax among which a part of the training fold chooses."""

PART_OF_CLASSIFIERS = 5
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
    chooses = np.arange(len(x)) % PART_OF_CLASSIFIERS == PART_OF_CLASSIFIERS - 1
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


# What features must beat: raw pixels, and a descriptor made by hand.


class Pixels:
    """The picture itself, small, less its own mean."""

    name, layers, side = "pixels", ("pixels",), 32
    key = f"pixels {side}"

    def __call__(self, pictures: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return float32 [n, 3 * 32 * 32]."""
        small = torch.stack([_square(picture, self.side) for picture in pictures]).flatten(1).float()
        return {"pixels": small - small.mean(1, keepdim=True)}


class Hog:
    """Histograms of oriented gradients (Dalal & Triggs) by scikit-image, the classic descriptor made by hand."""

    name, layers, side = "hog", ("hog",), 112
    settings = {"orientations": 9, "pixels_per_cell": (8, 8), "cells_per_block": (2, 2), "block_norm": "L2-Hys"}
    key = f"hog {side} {settings}"

    def __call__(self, pictures: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return float32 [n, 6084]."""
        squares = (_square(picture, self.side).permute(1, 2, 0).numpy() for picture in pictures)
        found = [hog(square, channel_axis=-1, **self.settings) for square in squares]
        return {"hog": torch.from_numpy(np.stack(found)).float()}


def _square(picture: Tensor, side: int) -> Tensor:
    return centre_square(resize_short_side(picture, side), side)


# How predictions are scored: accuracy averaged over classes, and VOC's average precision.

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
