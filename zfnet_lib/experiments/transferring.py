"""Tables 3, 4 and 6 and Fig. 7: frozen features of many sources on other pictures, over the paper's folds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..checkpoints import load_network
from ..datasets import Dataset
from ..files import results_root
from ..machine import threads
from ..network import ConvNet
from ..records import Record, Stopwatch, read, store
from ..specs import MINI
from ..trainings import training_data, undivided
from ..transfer import (
    Extractor,
    Fold,
    Hog,
    NetworkFeatures,
    Pixels,
    choose_decay,
    coordinates,
    extract,
    fit_softmax,
    fit_svm,
    per_class_accuracy,
    protocol_folds,
)
from .setting import describe_pictures, profile_of
from .spot import trained

FOLDS = 5

ACCURACY = "accuracy, mean over classes"

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc7")
"""Those of Table 6."""

CURVE = (1, 2, 3, 4, 6, 10, 15, 30, 45, 60)
"""Training pictures a class of Fig. 7."""


@dataclass(frozen=True)
class Trial:
    """One classifier on one layer's features, with some training pictures a class.

    Attributes:
        layer: `conv1` … `fc7`, `pixels` or `hog`.
        classifier: `svm` or `softmax`.
        each: Training pictures a class.
    """

    layer: str
    classifier: str
    each: int


@dataclass(frozen=True)
class Source:
    """What gives features, and what is tried with them on one data set.

    Attributes:
        name: Weights, `NAME, untrained` for the same layers with random weights, `hog` or `pixels`.
        data: A data set.
        trials: What is tried.
        background: Count Caltech-101's background as one more class.
    """

    name: str
    data: str
    trials: tuple[Trial, ...]
    background: bool = False

    @property
    def record(self) -> str:
        """Name of its file of records."""
        background = "-with-background" * self.background
        return f"{self.name.replace(', ', '-')}--{self.data}{background}.jsonl"


def _trials(layers: Sequence[str], classifier: str, each: Sequence[int]) -> tuple[Trial, ...]:
    return tuple(Trial(layer, classifier, n) for layer in layers for n in each)


def _pretrained(name: str, data: str, each: Sequence[int], curve: Sequence[int] = ()) -> Source:
    """Return all that Tables 3, 4 and 6 and Fig. 7 try with a network that has layers 1 to 7."""
    softmax = dict.fromkeys(
        (*_trials(("conv5",), "softmax", each[-1:]), *_trials(("fc7",), "softmax", (*curve, *each)))
    )
    return Source(name, data, _trials(LAYERS, "svm", each[-1:]) + tuple(softmax))


def _controls(network: str, data: str, each: Sequence[int]) -> tuple[Source, ...]:
    """Return the controls, each with both classifiers where training pictures are most."""
    untrained = (
        *_trials(LAYERS, "svm", each[-1:]),
        *_trials(("conv5",), "softmax", each[-1:]),
        *_trials(("conv5",), "svm", each[:-1]),
        *_trials(("fc7",), "softmax", each),
    )
    plain = (
        Source(name, data, _trials((name,), "svm", each) + _trials((name,), "softmax", each[-1:]))
        for name in ("hog", "pixels")
    )
    return Source(f"{network}, untrained", data, untrained), *plain


ALEXNET = Source(
    "alexnet-imagenet",
    "caltech-101",
    _trials(("conv1", "conv2", "conv3", "conv4", "conv5"), "svm", (15, 30))
    + _trials(("conv5",), "softmax", (15, 30)),
)

CLASSES_102 = Source(
    ALEXNET.name,
    ALEXNET.data,
    _trials(("conv5",), "svm", (15, 30)) + _trials(("conv5",), "softmax", (15, 30)),
    background=True,
)

SOURCES: dict[str, tuple[Source, ...]] = {
    "smoke": (
        _pretrained("mini", "shapes-transfer", (15, 30), CURVE[:-2]),
        *_controls("mini", "shapes-transfer", (15, 30)),
    ),
    "tiny": (
        ALEXNET,
        CLASSES_102,
        _pretrained("zfnet-tiny", "caltech-101", (15, 30)),
        *_controls("zfnet-tiny", "caltech-101", (15, 30)),
        _pretrained("zfnet-tiny", "mini-imagenet-novel", (15, 30, 45, 60), CURVE),
        *_controls("zfnet-tiny", "mini-imagenet-novel", (15, 30, 45, 60)),
    ),
    "paper": (
        _pretrained("zfnet-imagenet-paper-seed0", "caltech-101", (15, 30)),
        *_controls("zfnet-imagenet-paper-seed0", "caltech-101", (15, 30)),
        _pretrained("zfnet-imagenet-paper-seed0", "caltech-256", (15, 30, 45, 60), CURVE),
        *_controls("zfnet-imagenet-paper-seed0", "caltech-256", (15, 30, 45, 60)),
    ),
}
"""What each profile compares."""


def transferred(profile: str, source: Source, live: bool = False) -> list[Record]:
    """Return a source's accuracies: computed in `smoke`, else as stored; nothing where they have not run.

    Args:
        profile: `smoke`, `tiny` or `paper`.
        source: One of `SOURCES`.
        live: Compute and store them.

    Raises:
        ZfnetError: Missing data or weights, with the command that brings them.
    """
    path = results_root(profile_of(profile).name) / "transfer" / source.record
    if live or (profile == "smoke" and not is_fresh(path)):
        store(path, transfer_records(source))
    return read(path)


def is_fresh(path: Path) -> bool:
    """Tell whether this very code made the records, for a notebook before this one."""
    now, found = Stopwatch().provenance(), read(path)
    return bool(found) and not now.dirty and found[0].provenance.commit == now.commit != ""


def transfer_records(source: Source) -> Iterator[Record]:
    """Measure a source's trials over the paper's folds; yield mean accuracies with their spread over folds."""
    watch, dataset = Stopwatch(), whole_dataset(source.data, source.background)
    folds = protocol_folds(dataset, count=FOLDS)
    layers = tuple(dict.fromkeys(trial.layer for trial in source.trials))
    found = extract(extractor_of(source.name, layers), dataset)
    bar = tqdm(total=len(source.trials), desc=f"{source.name} on {source.data}", unit="classifier", delay=1)
    for layer in layers:
        kernel = found[layer].kernel()
        for trial in (trial for trial in source.trials if trial.layer == layer):
            judged = _over_folds(trial, kernel, dataset, folds)
            accuracies = [fold.accuracy for fold in judged]
            yield Record(
                "transfer",
                ACCURACY,
                mean(accuracies),
                "%",
                watch.provenance(),
                n=len(accuracies),
                spread=stdev(accuracies),
                parameters=asdict(trial)
                | {"folds": accuracies, "classes": len(dataset.classes), "dimensions": found[layer].dimensions}
                | {"fit_seconds": round(mean(fold.seconds for fold in judged), 2)}
                | ({"decays": [fold.decay for fold in judged]} if trial.classifier == "softmax" else {}),
                spec=source.name,
                data=describe_pictures(dataset),
            )
            bar.update()
    bar.close()


def whole_dataset(name: str, background: bool = False) -> Dataset:
    """Return all labelled pictures of a data set, its background too where that is asked for."""
    return training_data(name, "with-background") if background else undivided(name)


def extractor_of(name: str, layers: Sequence[str]) -> Extractor:
    """Return what makes features: a network's layers, the same untrained, or a control by its name."""
    controls = {"hog": Hog, "pixels": Pixels}
    if name in controls:
        return controls[name]()
    weights, _, untrained = name.partition(", ")
    net = trained(MINI.name).net if weights == MINI.name else load_network(weights)
    if untrained:
        net = ConvNet(net.spec, net.preparation, seed=0).eval()
    return NetworkFeatures(name, net, layers)


class Judged(NamedTuple):
    """One classifier on one fold.

    Attributes:
        accuracy: Mean over classes, in percent.
        seconds: To train it, its weight decay chosen first.
        decay: The chosen weight decay; 0 of an SVM.
    """

    accuracy: float
    seconds: float
    decay: float = 0.0


def _over_folds(trial: Trial, kernel: Tensor, dataset: Dataset, folds: Sequence[Fold]) -> list[Judged]:
    judge = partial(_on_fold, trial, kernel, dataset.labels, len(dataset.classes))
    if trial.classifier == "softmax":  # its products use all cores
        return [judge(fold) for fold in folds]
    with threads(torch.get_num_threads(), each=1) as pool:
        return list(pool.map(judge, folds))


def _on_fold(trial: Trial, kernel: Tensor, labels: np.ndarray, classes: int, fold: Fold) -> Judged:
    train = fold.train(trial.each)
    x, y, start = coordinates(kernel, train, fold.test), labels[train], perf_counter()
    if trial.classifier == "svm":
        svm = fit_svm(x.train, y)
        seconds = perf_counter() - start
        return Judged(per_class_accuracy(labels[fold.test], svm.predict(x.test.numpy())), seconds)
    targets = F.one_hot(torch.from_numpy(y), classes).float()

    def score(logits: Tensor, judged: np.ndarray) -> float:
        return per_class_accuracy(y[judged], logits.argmax(1).numpy())

    decay = choose_decay(x.train, targets, score)
    softmax = fit_softmax(x.train, targets, decay)
    seconds = perf_counter() - start
    answers = F.linear(x.test, *softmax).argmax(1).numpy()
    return Judged(per_class_accuracy(labels[fold.test], answers), seconds, decay)


def accuracy(records: Sequence[Record], layer: str, classifier: str, each: int) -> Record | None:
    """Return the record of one trial."""
    trial = asdict(Trial(layer, classifier, each))
    return next((one for one in records if trial.items() <= one.parameters.items()), None)
