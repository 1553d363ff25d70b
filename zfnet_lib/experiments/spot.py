"""What the profile `smoke` trains on the spot: narrow networks on `shapes`, each once a process.

They leave the records that `zfnet train` leaves, for the claims to read.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ..batches import training_preparation
from ..datasets import Dataset
from ..evaluation import errors
from ..evolution import Snapshots
from ..network import ConvNet
from ..recipes import SMOKE
from ..records import Stopwatch, store
from ..specs import MINI
from ..training import train
from ..trainings import Lesson, Training, record_epoch, training_data, training_records
from ..transfer import protocol_folds

DATA, TRANSFER_DATA = "shapes", "shapes-transfer"

LONGER = 12
"""Epochs for a network that seldom errs, where that matters."""

SCRATCH_EPOCHS = 40
"""Over few pictures; the training error is near zero then, or the loss is still at ln(classes)."""


@dataclass(frozen=True)
class Trained:
    """One trained network and its errors in percent, one centre view as in Table 2.

    Attributes:
        net: The network, in evaluation mode.
        epochs: One dict an epoch, as `training.EpochResult`.
        train, val1, val5: Top-1 training error; top-1 and top-5 validation error.
    """

    net: ConvNet
    epochs: list[dict]
    train: float
    val1: float
    val5: float


@cache
def trained(
    name: str,
    seed: int = 0,
    clip: str = "all",
    precision: str = SMOKE.precision,
    followed: bool = False,
    epochs: int = SMOKE.epochs,
) -> Trained:
    """Train a narrow network by the recipe `SMOKE`.

    Args:
        name: Of an architecture.
        seed: Of weights, order, views and dropout.
        clip: Which filters are renormalised.
        precision: Of maps and gradients.
        followed: Measure the validation errors after every epoch, not only at the end.
        epochs: More than the recipe's give a network that seldom errs.
    """
    net, data = _begun(name, seed)
    validation, watch = training_data(DATA, "val"), Stopwatch()
    recipe = replace(SMOKE, clip=clip, precision=precision, epochs=epochs)
    training, lesson = Training(name, DATA, recipe, seed), Lesson(data, np.empty(0, np.int64), validation)
    training.epochs_file.unlink(missing_ok=True)
    results = []
    for epoch in train(net, data, recipe, validation=validation if followed else None, seed=seed):
        record_epoch(training, epoch, lesson, watch.provenance(seed))
        results.append(asdict(epoch))
    held_in, held_out = errors(net, data), errors(net, validation)
    measured = [
        record
        for found, pictures in ((held_in, data), (held_out, validation))
        for record in training_records(training, found, pictures, watch.provenance(seed), pictures.split)
    ]
    store(training.errors_file, measured)
    return Trained(net, results, held_in.top1, held_out.top1, held_out.top5)


def scratch_training(each: int, fold: int) -> Training:
    """Return what trains from scratch on a fold of the second set of objects, with so many pictures a class."""
    return Training(MINI.name, TRANSFER_DATA, replace(SMOKE, epochs=SCRATCH_EPOCHS), fold, each)


@cache
def train_from_scratch(each: int, fold: int) -> None:
    """Train `MINI` on a fold of the second set of objects, and leave its errors.

    Args:
        each: Training pictures a class.
        fold: Of `protocol_folds`; also the seed.
    """
    training, watch = scratch_training(each, fold), Stopwatch()
    data = training_data(TRANSFER_DATA, "val")
    chosen = protocol_folds(data, count=fold + 1)[fold]
    others = np.setdiff1d(np.arange(len(data)), chosen.train(each))
    net = ConvNet(
        replace(MINI, classes=len(data.classes)), training_preparation(data, MINI.image_size, others), seed=fold
    )
    for _ in train(net, data, training.recipe, exclude=others, seed=fold):
        pass
    found = errors(net, data, rows=chosen.test)
    store(training.errors_file, training_records(training, found, data, watch.provenance(fold), "test"))


@cache
def developing(name: str, seed: int = 0) -> dict[int, ConvNet]:
    """Train a narrow network by the recipe `SMOKE` and return it at the epochs of Fig. 4.

    Args:
        name: Of an architecture.
        seed: Of weights, order, views and dropout.
    """
    net, data = _begun(name, seed)
    with TemporaryDirectory() as folder:
        for _ in train(net, data, SMOKE, folder=Path(folder), seed=seed, snapshots=True):
            pass
        return dict(Snapshots(Path(folder)))


def _begun(name: str, seed: int) -> tuple[ConvNet, Dataset]:
    """Return an untrained network and its training pictures."""
    data = training_data(DATA, "train")
    spec = Training(name, DATA, SMOKE).spec(len(data.classes))
    return ConvNet(spec, training_preparation(data, spec.image_size), seed=seed), data
