"""What the profile `smoke` trains on the spot: narrow networks on `shapes`.

Each is trained by the first notebook that needs it; the others take it up, as long as the library stays as it is.
The trainings leave the records that `zfnet train` leaves, for the claims to read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from ..architecture import MINI
from ..batches import training_preparation
from ..datasets import Dataset
from ..evaluation import errors
from ..files import alone, library_hash, spot_root
from ..network import ConvNet
from ..training import SMOKE, train
from ..weights import CheckpointError, load_network, read_meta, save_network
from .records import Stopwatch, store
from .trainings import Lesson, Training, record_epoch, training_data, training_records
from .transfer import protocol_folds

DATA, TRANSFER_DATA = "shapes", "shapes-transfer"

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
) -> Trained:
    """Train a narrow network by the recipe `SMOKE`.

    Args:
        name: Of an architecture.
        seed: Of weights, order, views and dropout.
        clip: Which filters are renormalised.
        precision: Of maps and gradients.
    """
    recipe = replace(SMOKE, clip=clip, precision=precision)
    weights = _once(Training(name, DATA, recipe, seed), _train)
    facts = read_meta(weights)["record"]
    return Trained(load_network(weights), *(facts[key] for key in ("epochs", "train", "val1", "val5")))


def _train(training: Training) -> tuple[ConvNet, dict]:
    """Perform a training and leave its records; return the network, its epochs and its errors."""
    net, data = _begun(training.network, training.seed)
    validation, watch = training_data(DATA, "val"), Stopwatch()
    lesson = Lesson(data, np.empty(0, np.int64), validation)
    training.epochs_file.unlink(missing_ok=True)
    epochs = []
    for epoch in train(net, data, training.recipe, validation=validation, seed=training.seed):
        record_epoch(training, epoch, lesson, watch.provenance(training.seed))
        epochs.append(asdict(epoch))
    held_in, held_out = errors(net, data), errors(net, validation)
    measured = [
        record
        for found, pictures in ((held_in, data), (held_out, validation))
        for record in training_records(training, found, pictures, watch.provenance(training.seed), pictures.split)
    ]
    store(training.errors_file, measured)
    return net, {"epochs": epochs, "train": held_in.top1, "val1": held_out.top1, "val5": held_out.top5}


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
    _once(scratch_training(each, fold), _train_from_scratch)


def _train_from_scratch(training: Training) -> tuple[ConvNet, dict]:
    watch, data = Stopwatch(), training_data(TRANSFER_DATA, "val")
    chosen = protocol_folds(data, count=training.seed + 1)[training.seed]
    others = np.setdiff1d(np.arange(len(data)), chosen.train(training.each))
    preparation = training_preparation(data, MINI.image_size, others)
    net = ConvNet(replace(MINI, classes=len(data.classes)), preparation, seed=training.seed)
    for _ in train(net, data, training.recipe, exclude=others, seed=training.seed):
        pass
    found = errors(net, data, rows=chosen.test)
    made = watch.provenance(training.seed)
    store(training.errors_file, training_records(training, found, data, made, "test"))
    return net, {}


def _begun(name: str, seed: int) -> tuple[ConvNet, Dataset]:
    """Return an untrained network and its training pictures."""
    data = training_data(DATA, "train")
    spec = Training(name, DATA, SMOKE).spec(len(data.classes))
    return ConvNet(spec, training_preparation(data, spec.image_size), seed=seed), data


def _once(training: Training, perform: Callable[[Training], tuple[ConvNet, dict]]) -> Path:
    """Return the weights of a training on the spot; perform it unless this very code has done so."""
    code = f"{library_hash()}, torch {torch.__version__}"
    folder = spot_root() / training.name
    with alone(folder):
        if _code_of(folder / "weights") != code or not training.errors_file.exists():
            net, facts = perform(training)
            save_network(net, folder / "weights", facts | {"code": code})
    return folder / "weights"


def _code_of(weights: Path) -> str:
    try:
        load_network(weights)  # damaged ones are trained again
        return read_meta(weights)["record"]["code"]
    except CheckpointError:
        return ""
