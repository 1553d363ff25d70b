"""The trained weights that come with the project: made small, and measured against the training they come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from . import records
from .batches import squares_of
from .checkpoints import Stored, load_network, read_meta, save_network
from .datasets import Dataset
from .deconv import project
from .evaluation import errors
from .files import ZfnetError, is_there, results_root
from .network import ConvNet, Trace
from .recipes import TINY
from .retraining import retrain
from .trainings import Training, error_records, performed, read_epochs, training_data

DATA = "tiny-imagenet"
TOLERANCE = 0.1
"""Points of top-1 error that the stored weights may differ by from the trained ones."""

NATIVE = replace(TINY, epochs=60)
"""Of the stems that learn from pictures of more pixels than Tiny-ImageNet's: fewer pictures, more often."""

PICTURES, UNITS = 64, 8
"""Validation pictures on which projections are compared, and units of each layer of each."""


@dataclass(frozen=True)
class Shipped:
    """One entry of the table of shipped weights.

    Attributes:
        training: Where they come from.
        upto: The last layer that ships; all layers where it is empty.
        stored: How they lie on the disk.
        good_for: What they are good for, in words.
    """

    training: Training
    upto: str
    stored: Stored
    good_for: str


SHIPPED = {
    "zfnet-tiny": Shipped(
        Training("zfnet", DATA, TINY),
        "",
        "int8",
        "projections, strongest units, occlusion and transfer on a laptop; not a classifier to rely on",
    ),
    "krizhevsky-tiny": Shipped(
        Training("krizhevsky", DATA, TINY), "conv2", "float16", "comparing the first two layers (Fig. 5)"
    ),
    "zfnet-tiny-not-renormalised": Shipped(
        Training("zfnet", DATA, replace(TINY, clip="none")), "conv2", "float16", "filters that dominate (Fig. 5a)"
    ),
    "zfnet-caltech-101-stem": Shipped(
        Training("zfnet", "caltech-101", NATIVE), "conv2", "float16", "stems at native resolution (Fig. 5)"
    ),
    "krizhevsky-caltech-101-stem": Shipped(
        Training("krizhevsky", "caltech-101", NATIVE), "conv2", "float16", "stems at native resolution (Fig. 5)"
    ),
}
"""All weights that ship from a training, by name; `load_network` takes these names."""


@dataclass(frozen=True)
class Retrained:
    """A shipped softmax on the convolutions of weights that are fetched (section 5.2).

    Attributes:
        base: The weights that it stands on.
        data: What its classes are from; a tenth of each class is held out.
        good_for: What it is good for, in words.
    """

    base: str
    data: str
    good_for: str


RETRAINED = {
    "alexnet-caltech-101": Retrained(
        "alexnet-imagenet",
        "caltech-101",
        "a classifier on ImageNet's features, whole: occlusion on photographs (Fig. 6)",
    )
}
"""All softmaxes that ship, by name."""


def ship(name: str) -> Iterator[str]:
    """Store weights under `results/`: of a finished training, with how far they are from it, or a new softmax.

    Args:
        name: A key of `SHIPPED` or of `RETRAINED`.

    Yields:
        A sentence about each measurement.

    Raises:
        ZfnetError: Unknown name, missing data or weights, a training that has not ended, or errors that differ
            by more than `TOLERANCE`.
    """
    if name not in SHIPPED | RETRAINED:
        raise ZfnetError(f"{name!r} is not shipped; shipped are {', '.join(SHIPPED | RETRAINED)}")
    measured = _ship_softmax(name) if name in RETRAINED else _ship_training(name)
    for record in measured:
        yield f"{record.quantity}: {record.value:.2f} {record.unit}"


def _ship_softmax(name: str) -> list[records.Record]:
    """Train a softmax on frozen features, store it without what it stands on, and measure the stored network."""
    entry, root, watch = RETRAINED[name], results_root(TINY.name), records.Stopwatch()
    data, held_out = (training_data(entry.data, split) for split in ("train", "val"))
    whole = retrain(load_network(entry.base), data, progress=True)
    facts = {
        "data": f"{data.name} {data.split} ({len(data)} pictures, {data.fingerprint})",
        "classes": list(data.classes),
        "good_for": entry.good_for,
        "provenance": asdict(watch.provenance(0)),
    }
    folder = save_network(whole, root / "weights" / name, facts, "float16", entry.base)
    stored, measured = load_network(folder), []
    for views in (1, 10):
        watch = records.Stopwatch()
        found = errors(stored, held_out, views, progress=True)
        measured += error_records(found, held_out, watch.provenance(), {"networks": [name]}, entry.base)
    records.store(root / "errors" / f"{name}.jsonl", measured)
    return measured


def _ship_training(name: str) -> list[records.Record]:
    """Store the weights of a training that has ended, unless that loses too much."""
    entry = SHIPPED[name]
    training, root = performed(entry.training, "weights"), results_root(entry.training.recipe.name)
    if not all(map(is_there, (training.weights, training.errors_file, training.epochs_file))):
        raise ZfnetError(f"{training.name} has not ended; run: {training.command} --resume")
    trained = load_network(training.weights)
    part = trained.features(entry.upto) if entry.upto else trained
    facts = read_meta(training.weights)["record"] | {
        "stored": entry.stored,
        "good_for": entry.good_for,
        "excluded": read_epochs(training.epochs_file)[-1]["excluded"],
        "provenance": read_epochs(training.epochs_file)[-1]["provenance"],
    }
    with TemporaryDirectory() as folder:
        stored = load_network(save_network(part, Path(folder) / name, facts, entry.stored))
    validation = training_data(training.data, "val")
    measured = list(projection_records(name, part, stored, validation))
    if not entry.upto:
        measured += _error_records(name, training, stored, validation)
    save_network(part, root / "weights" / name, facts, entry.stored)
    records.store(root / "errors" / f"{name}.jsonl", measured)
    return measured


def _error_records(name: str, training: Training, stored: ConvNet, validation: Dataset) -> list[records.Record]:
    """Measure the stored network with one view and ten, and require what the training recorded."""
    measured = []
    for views in (1, 10):
        watch = records.Stopwatch()
        found = errors(stored, validation, views)
        measured += error_records(found, validation, watch.provenance(), {"networks": [name]}, training.network)
    before = {
        (record.quantity, record.parameters["views"]): record.value for record in records.read(training.errors_file)
    }
    for record in measured:
        expected = before[record.quantity, record.parameters["views"]]
        if abs(record.value - expected) > TOLERANCE:
            raise ZfnetError(
                f"{record.quantity} of the stored weights is {record.value:.2f} %, of the trained ones "
                f"{expected:.2f} %; store them with more bits"
            )
    return measured


def projection_records(
    name: str, trained: ConvNet, stored: ConvNet, validation: Dataset
) -> Iterator[records.Record]:
    """Measure how far the projections of stored weights are from those of the trained ones.

    Once with the switches of the trained network for both, and once with its own for each: rounding moves some
    maxima of nearly equal values to another place. Units are the largest of their maps, of maps drawn by seed.

    Yields:
        For each layer and kind of switches the median of the relative norms of the differences, in percent.
    """
    watch, rows = records.Stopwatch(), torch.arange(min(PICTURES, len(validation)))
    x = trained.prepare(squares_of(validation, rows, trained.preparation))
    ours, theirs = (net.features().trace(x) for net in (trained, stored))
    for conv in trained.spec.convs:
        differences: dict[str, list[float]] = {"the same switches": [], "switches of their own": []}
        for signal in _signals(ours, conv.name):
            expected = project(ours, conv.name, signal)
            same = project(replace(ours, net=stored), conv.name, signal)
            own = project(theirs, conv.name, signal)
            for kind, found in zip(differences, (same, own), strict=True):
                norms = (found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
                differences[kind] += norms[norms.isfinite()].tolist()
        for kind, values in differences.items():
            yield records.Record(
                "shipping",
                f"median difference of {conv.name}'s projections, {kind}",
                100 * median(values),
                "% of the norm",
                watch.provenance(),
                n=len(values),
                spec=name,
                data=f"{validation.name} {validation.split} ({validation.fingerprint})",
            )


def _signals(trace: Trace, layer: str) -> Iterator[torch.Tensor]:
    """Yield signals on a layer's maps: in each picture the largest unit of one map, drawn by seed."""
    maps = trace[layer].maps
    generator = torch.Generator().manual_seed(0)
    for _ in range(UNITS):
        chosen = torch.randint(maps.shape[1], (len(maps),), generator=generator)
        flat = maps[torch.arange(len(maps)), chosen].flatten(1)
        signal = torch.zeros_like(maps)
        value, place = flat.max(1)
        row, column = place // maps.shape[-1], place % maps.shape[-1]
        signal[torch.arange(len(maps)), chosen, row, column] = value
        yield signal
