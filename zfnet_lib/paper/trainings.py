"""Named trainings: an architecture on a data set by a recipe, with its records and the weights it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..architecture import MINI, NARROW, STEMS, TABLE_2, ArchSpec, architecture
from ..batches import squares_of, training_preparation
from ..datasets import (
    DATASETS,
    Dataset,
    MissingDataError,
    Pack,
    Pooled,
    open_dataset,
    open_pack,
    pack_dataset,
    pack_in_memory,
)
from ..datasets.overlap import known_overlaps
from ..deconv import project
from ..evaluation import Errors, errors
from ..files import UnwritableError, ZfnetError, alone, data_root, is_busy, is_there, notice, results_root
from ..machine import has_bf16, is_first, own_device
from ..network import ConvNet, Trace
from ..training import RECIPES, TINY, EpochResult, OnPlateau, Progress, Recipe, saved_states, train
from ..weights import Stored, known_classes, load_network, read_meta, save_network
from . import records
from .transfer import MOST, choose_decay, fit_softmax, per_class_accuracy, protocol_folds

ALTERED = ("clip", "precision", "epochs", "batch", "views")
"""What of a recipe a training may change; its name says so."""

TRAIN_SAMPLE = 10_000
"""Training pictures, drawn with seed 0, on which the training error of Table 2 is measured."""


@dataclass(frozen=True)
class Training:
    """One training, named so that everybody who runs it means the same.

    Attributes:
        network: A named architecture.
        data: A data set; its split `train` is trained on, `val` is evaluated on.
        recipe: How.
        seed: Of weights, order, views and dropout.
        each: So many pictures a class, those of the fold `seed` (section 5.2); 0 trains on the split `train`, and
            on all but a tenth of data without one. Without validation pictures the rate falls as in `TINY`.
    """

    network: str
    data: str
    recipe: Recipe
    seed: int = 0
    each: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.seed < 2**63 and self.each >= 0):
            raise ZfnetError(
                f"seed {self.seed}, {self.each} pictures a class: no number may be negative, nor a seed above 2^63"
            )
        if isinstance(self.recipe.anneal, OnPlateau) and (self.each or not has_splits(self.data)):
            object.__setattr__(self, "recipe", replace(self.recipe, anneal=TINY.anneal))

    @property
    def altered(self) -> tuple[str, ...]:
        """What was changed in the recipe."""
        named = RECIPES.get(self.recipe.name, self.recipe)
        return tuple(key for key in ALTERED if getattr(self.recipe, key) != getattr(named, key))

    @property
    def name(self) -> str:
        """For example `zfnet-tiny-imagenet-tiny-seed0`; what is altered in the recipe is part of it."""
        changes = "".join(f"-{key}-{getattr(self.recipe, key)}" for key in self.altered)
        data = self.data.replace(":", "-").replace("/", "-")
        each = f"-{self.each}-a-class" if self.each else ""
        return f"{self.network}{changes}-{data}{each}-{self.recipe.name}-seed{self.seed}"

    @property
    def command(self) -> str:
        """What performs it, or goes on with it."""
        changes = "".join(f" --{key} {getattr(self.recipe, key)}" for key in self.altered)
        each = f" --each {self.each}" if self.each else ""
        seed = f" --seed {self.seed}" if self.seed else ""
        return f"zfnet train {self.network} --data {self.data} --recipe {self.recipe.name}{changes}{each}{seed}"

    @property
    def folder(self) -> Path:
        """Where its checkpoints and snapshots lie."""
        return data_root() / "trainings" / self.name

    @property
    def weights(self) -> Path:
        """Where the trained network is saved."""
        return data_root() / "weights" / self.name

    @property
    def epochs_file(self) -> Path:
        """Its record: one JSON line an epoch."""
        return results_root(self.recipe.name) / "trainings" / f"{self.name}.jsonl"

    @property
    def errors_file(self) -> Path:
        """Its errors: one record each."""
        return results_root(self.recipe.name) / "errors" / f"{self.name}.jsonl"

    def spec(self, classes: int) -> ArchSpec:
        """Return the architecture at the recipe's scale: narrow at 64 pixels, at 112, or as in the paper."""
        spec = replace(architecture(self.network), classes=classes)
        if self.recipe.name == "smoke" and spec.name != MINI.name:
            return spec.scaled(NARROW, image_size=MINI.image_size, name=spec.name)
        return replace(spec, image_size=112) if self.recipe.name == "tiny" else spec


def epochs(
    training: Training,
    *,
    resume: bool = False,
    workers: int = 0,
    compiled: bool = False,
    report: Callable[[Progress], None] | None = None,
    notice: Callable[[str], None] = lambda sentence: None,
) -> Iterator[EpochResult]:
    """Perform a training; leave a line of its record an epoch, and at the end the weights and their errors.

    The weights are saved whenever the end is reached; epochs and errors that have a record, shipped ones too, are
    not recorded again.

    Under `torchrun` every process calls this; the first one writes.

    Args:
        training: What to train.
        resume: Continue where an earlier call stopped.
        workers: Processes that decode pictures where the data set is not packed.
        compiled: Run the convolutional layers through `torch.compile`.
        report: Called after every update.
        notice: Called with a sentence about what is left out, or what a checkpoint lacked.

    Raises:
        ZfnetError: Data that are missing, or what `training.train` raises.
    """
    if workers < 0:
        raise ZfnetError(f"{workers} decoding processes are impossible; 0 decodes in this one")
    lesson = lesson_of(training)
    data, exclude = lesson.data, lesson.exclude
    for pictures in (data, lesson.validation):
        if isinstance(pictures, Pack):
            pictures.verify()  # a second a gigabyte, before hours that would rest on damaged pixels
    if lesson.overlapping:
        notice(
            f"{lesson.overlapping:,} pictures of {data.name} are left out: `zfnet overlap` found them in others too"
        )
    if training.recipe.precision == "bfloat16" and not has_bf16():
        notice("this machine emulates bfloat16; --precision float32 may be many times faster")
    spec = training.spec(len(data.classes))
    net = ConvNet(spec, training_preparation(data, spec.image_size, exclude), seed=training.seed)
    net.to(own_device())
    watch, first = records.Stopwatch(), is_first()
    if first and is_busy(training.folder):
        raise ZfnetError(f"another process trains {training.name}; wait for it, or choose another seed")
    with alone(training.folder) if first else nullcontext():
        for epoch in train(
            net,
            data,
            training.recipe,
            validation=lesson.validation if lesson.rows is None else None,
            folder=training.folder,
            resume=resume,
            seed=training.seed,
            exclude=exclude,
            snapshots=True,
            workers=workers,
            compiled=compiled,
            report=report,
            notice=notice,
        ):
            if first:
                record_epoch(training, epoch, lesson, watch.provenance(training.seed, net.device))
            yield epoch
        if first:
            made = watch.provenance(training.seed, net.device)
            last = _line(training, epoch, lesson, made)
            facts = {key: last[key] for key in ("training", "data", "recipe", "seed", "epoch")}
            save_network(net, training.weights, facts | {"classes": list(data.classes)})
            if not training.errors_file.exists():
                _measure(training, net, lesson)


@dataclass(frozen=True)
class Lesson:
    """What a training learns from, and what its errors are measured on.

    Attributes:
        data, exclude: Pictures, and which of them are not learnt from.
        validation, rows: Pictures, and which of them are for errors; all, after every epoch too, where None.
        overlapping: How many are left out because they stand in another data set, to be tested on.
    """

    data: Dataset
    exclude: np.ndarray
    validation: Dataset
    rows: np.ndarray | None = None
    overlapping: int = 0


def performed(training: Training, left: Literal["errors_file", "weights"] = "errors_file") -> Training:
    """Return a training, or the same one in float32 where only that has left errors, or weights; both learn alike.

    bfloat16 is the recipes' precision, and processors without its instructions would take weeks.
    """
    other = replace(training, recipe=replace(training.recipe, precision="float32"))
    return other if is_there(getattr(other, left)) and not is_there(getattr(training, left)) else training


def lesson_of(training: Training) -> Lesson:
    """Return a training's pictures: the splits of its data, or a fold of data that have none (section 5.2).

    Raises:
        ZfnetError: Missing data, or too few pictures of a class.
    """
    if training.each:
        data = undivided(training.data)
        fold = protocol_folds(data, max(training.each, MOST[training.data]), count=training.seed + 1)[training.seed]
        kept, tested = fold.train(training.each), fold.test
    elif has_splits(training.data):
        data = training_data(training.data, "train")
        exclude = excluded_rows(data)
        return Lesson(data, exclude, training_data(training.data, "val"), None, len(exclude))
    else:
        data = training_data(training.data, "all")
        order = np.random.default_rng(0).permutation(len(data))
        kept, tested = order[len(order) // 10 :], np.sort(order[: len(order) // 10])
    return Lesson(data, np.setdiff1d(np.arange(len(data)), kept), data, tested)


def has_splits(data: str) -> bool:
    """Tell whether a data set comes with validation pictures; others are divided here."""
    return data not in DATASETS or "all" not in DATASETS[data].splits


def undivided(name: str) -> Dataset:
    """Return the pictures of which the folds of section 5.2 are drawn; several splits are pooled.

    Raises:
        ZfnetError: Missing data, or data without such folds.
    """
    if name not in MOST:
        raise ZfnetError(f"{name} has a split of its own for training; leave out --each")
    if name.startswith("shapes"):
        return training_data(name, "val")
    if has_splits(name):
        return Pooled([training_data(name, split) for split in ("train", "val")])
    return training_data(name, "all")


def training_data(name: str, split: str) -> Dataset:
    """Return the pack of a split; of a fetched data set the pictures themselves where it is not packed.

    Data sets that are made in code, and folders of one's own, are packed when they are first asked for, and again
    when they have changed: what cannot be read is left out once, before anything learns from it.
    """
    if name not in DATASETS or DATASETS[name].reader is None:
        try:
            return pack_dataset(name, split, progress=name not in DATASETS)
        except UnwritableError as error:
            if name not in DATASETS:
                raise
            notice(f"{error}; the pictures of {name} are kept in memory")
            return pack_in_memory(open_dataset(name, split), DATASETS[name].side)
    try:
        return open_pack(name, split)
    except MissingDataError:
        return open_dataset(name, split)


def excluded_rows(data: Dataset) -> np.ndarray:
    """Return the pictures that also stand in a data set to test on, as far as `zfnet overlap` looked (5.2)."""
    rows = [overlap.rows_in(data) for overlap in known_overlaps(data.name, data.split)]
    return np.unique(np.concatenate(rows)) if rows else np.empty(0, np.int64)


def read_epochs(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a training's record, one an epoch.

    Raises:
        ZfnetError: A line is damaged.
    """
    try:
        return [json.loads(line) for line in records.read_lines(path)]
    except json.JSONDecodeError as error:
        raise ZfnetError(f"{path} is damaged ({error}); restore it, or remove it and train again") from error


def record_epoch(training: Training, epoch: EpochResult, lesson: Lesson, made: records.Provenance) -> None:
    """Add an epoch's line to a training's record unless an earlier call wrote it."""
    lines = read_epochs(training.epochs_file)
    if any(line["epoch"]["epoch"] == epoch.epoch for line in lines):
        return
    lines.append(_line(training, epoch, lesson, made))
    records.write_lines(training.epochs_file, (json.dumps(line, sort_keys=True) for line in lines))


def _line(training: Training, epoch: EpochResult, lesson: Lesson, made: records.Provenance) -> dict[str, Any]:
    recipe = {key: value for key, value in training.recipe.to_dict().items() if key != "expected"}
    return {
        "training": training.name,
        "network": training.network,
        "data": f"{lesson.data.name} {lesson.data.split} ({lesson.data.fingerprint})",
        "excluded": len(lesson.exclude),
        "recipe": recipe,
        "seed": training.seed,
        "epoch": asdict(epoch),
        "provenance": asdict(made),
    }


def _measure(training: Training, net: ConvNet, lesson: Lesson) -> None:
    """Measure the errors of Table 2: one view, ten views, and on training pictures."""
    data = lesson.data
    kept = np.setdiff1d(np.arange(len(data)), lesson.exclude)
    sample = np.sort(np.random.default_rng(0).permutation(kept)[:TRAIN_SAMPLE])
    held_out = lesson.validation.split if lesson.rows is None else "test"
    trained_on = data.split if lesson.rows is None else "train"
    measured = []
    for part, views, pictures, rows in (
        (held_out, 1, lesson.validation, lesson.rows),
        (held_out, 10, lesson.validation, lesson.rows),
        (trained_on, 1, data, sample),
    ):
        watch = records.Stopwatch()
        found = errors(net, pictures, views, rows=rows)
        made = watch.provenance(training.seed, net.device)
        measured += training_records(training, found, pictures, made, part)
    records.append(training.errors_file, measured)


def require_same_classes(weights: str, net: ConvNet, data: Dataset) -> None:
    """Check that a network was trained on the classes of a data set, as far as its weights tell.

    Args:
        weights: Name or folder, as `load_network` takes it.
        net: The network that was loaded.
        data: What it is to be evaluated on.

    Raises:
        ZfnetError: Another number of classes, or other names.
    """
    ours, theirs = known_classes(weights), data.classes
    repair = "evaluate it on the data that it was trained on"
    if net.spec.classes not in (0, len(theirs)):
        raise ZfnetError(
            f"{weights} tells {net.spec.classes} classes apart and {data.name} has {len(theirs)}; {repair}"
        )
    for number, (our, their) in enumerate(zip(ours, theirs, strict=False)):
        if our != their:
            raise ZfnetError(f"class {number} is {our!r} to {weights} and {their!r} in {data.name}; {repair}")


def training_records(
    training: Training, found: Errors, data: Dataset, made: records.Provenance, part: str
) -> list[records.Record]:
    """Return the records of a training's errors, with `each` averaged over classes too, as in section 5.2.

    Args:
        training: Of the network.
        found: Its errors.
        data: Measured on these pictures.
        made: Where the numbers come from.
        part: Which pictures: `train`, `val` or `test`.
    """
    settings = {"networks": [training.name], "recipe": training.recipe.name, "clip": training.recipe.clip}
    measured = error_records(found, data, made, settings, training.network, part)
    if training.each:
        mean = float(np.nanmean(found.per_class))
        measured.append(replace(measured[-1], quantity=f"{part} mean per-class error", value=mean))
    return measured


def error_records(
    found: Errors, data: Dataset, made: records.Provenance, settings: dict[str, Any], spec: str = "", part: str = ""
) -> list[records.Record]:
    """Return the records of a network's errors, or of an ensemble's.

    Args:
        found: The errors.
        data: Measured on these pictures.
        made: Where the numbers come from.
        settings: Names of the `networks`, and what else belongs to the numbers.
        spec: The architecture, where it is one.
        part: Which pictures; the data's split by default.
    """
    return [
        records.Record(
            "training",
            f"{part or data.split} {top} error",
            value,
            "%",
            made,
            n=found.n,
            parameters=settings | {"views": found.views},
            spec=spec,
            data=f"{data.name} {data.split} ({data.fingerprint})",
        )
        for top, value in (("top-1", found.top1), ("top-5", found.top5))
    ]


# The trainings that Tables 1 and 2 and Fig. 5 rest on, in the order in which they are worth having.

Member = tuple[str, int]
"""A network of an ensemble: architecture and seed."""

WIDE = "zfnet-maps-512-1024-512"
FIVE: tuple[Member, ...] = tuple(("zfnet", seed) for seed in range(5))

TABLE_1: tuple[tuple[Member, ...], ...] = (
    (("krizhevsky", 0),),
    (("zfnet", 0),),
    FIVE,
    ((WIDE, 0),),
    (*FIVE, (WIDE, 0)),
)
"""The networks whose probabilities each row of Table 1 averages: one, one, (a), (b), and (a) with (b)."""

State = Literal["ran", "runs", "begun", "stored", "to come"]


def queue(data: str, recipe: Recipe) -> list[Training]:
    """Return all trainings of one data set, those that more rests on first.

    The three base runs; the other rows of Table 2, cheapest first, and the crossed stems; Table 1's further seeds
    of Fig. 3's network and of Krizhevsky's; then second seeds of the rest.

    Example:
        >>> from zfnet_lib.recipes import TINY
        >>> [training.name for training in queue("tiny-imagenet", TINY)][2:4]
        ['zfnet-clip-none-tiny-imagenet-tiny-seed0', 'krizhevsky-without-3-4-6-7-tiny-imagenet-tiny-seed0']
    """

    def seeds(name: str, *numbers: int) -> list[Training]:
        return [Training(name, data, recipe, seed) for seed in numbers]

    base = seeds("zfnet", 0) + seeds("krizhevsky", 0)
    base.append(Training("zfnet", data, replace(recipe, clip="none"), 0))
    others = [*sorted(TABLE_2.keys() - {"zfnet", "krizhevsky"}, key=_cost), *STEMS]
    first = [training for name in others for training in seeds(name, 0)]
    second = [training for name in others for training in seeds(name, 1)]
    return base + first + seeds("zfnet", 1, 2, 3, 4) + seeds("krizhevsky", 1, 2) + second


def state(training: Training) -> State:
    """Return how far a training has come on this machine; where only its record is here, it is `stored`."""
    recorded = training.errors_file.exists()
    if recorded and is_there(training.weights):
        return "ran"
    if is_busy(training.folder):
        return "runs"
    if saved_states(training.folder):
        return "begun"
    return "stored" if recorded else "to come"


def lacks(training: Training, data: str, recipe: Recipe) -> bool:
    """Tell whether Tables 1 and 2 lack what a training leaves: errors, or weights for an ensemble of Table 1."""
    if state(training) == "stored":
        return any(training in members for members in _unmeasured(data, recipe))
    return state(training) in ("begun", "to come")


def measure_ensembles(data: str, recipe: Recipe) -> Iterator[str]:
    """Measure the ensembles of Table 1 whose networks are all at hand and that have no record yet.

    Yields:
        A sentence about each.
    """
    for trainings in _unmeasured(data, recipe):
        if not all(is_there(training.weights) for training in trainings):
            continue
        names = sorted(training.name for training in trainings)
        watch, pictures = records.Stopwatch(), training_data(data, "val")
        found = errors([load_network(training.weights) for training in trainings], pictures)
        made = watch.provenance(0)
        records.append(
            _ensembles(recipe), error_records(found, pictures, made, {"networks": names, "recipe": recipe.name})
        )
        yield f"ensemble of {len(names)}: top-1 error {found.top1:.2f} %, top-5 error {found.top5:.2f} %"


def _ensembles(recipe: Recipe) -> Path:
    return results_root(recipe.name) / "errors" / "ensembles.jsonl"


def _unmeasured(data: str, recipe: Recipe) -> Iterator[list[Training]]:
    """Yield the ensembles of Table 1 that have no record."""
    known = [record.parameters["networks"] for record in records.read(_ensembles(recipe))]
    for members in TABLE_1:
        trainings = [Training(name, data, recipe, seed) for name, seed in members]
        if len(trainings) > 1 and sorted(training.name for training in trainings) not in known:
            yield trainings


def report(trainings: Sequence[Training]) -> Iterator[str]:
    """Yield a line for each training: its state, its error where it ran, and its name."""
    for training in trainings:
        found = [r for r in records.read(training.errors_file) if r.quantity == "val top-1 error"]
        error = f"{found[0].value:6.1f} %" if found else " " * 8
        yield f"{state(training):8}{error}  {training.name}"


def _cost(name: str) -> tuple[int, str]:
    return sum(TABLE_2[name].macs().values()), name


# The trained weights that come with the project: made small, and measured against the training they come from.

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


# Section 5.2 as a whole network: the layers of a trained one kept as they are, and a new softmax on top.

BATCH = 32


def retrain(net: ConvNet, dataset: Dataset, progress: bool = False) -> ConvNet:
    """Keep a network's convolutions and train a new softmax on what the last of them hands on (section 5.2).

    Features are divided by one number, their root mean square length over the data set, which then becomes part
    of the weights: the network stays one of convolutions and a softmax. A fifth of the pictures chooses the decay.

    Args:
        net: The network; its classifier, where it has one, is left out.
        dataset: Pictures with one label each.
        progress: Show a bar.

    Returns:
        A network for the data set's classes, in evaluation mode, with the same convolutions and preparation.

    Example:
        >>> from zfnet_lib import MINI, open_dataset
        >>> few = open_dataset("shapes", "val", n=32)
        >>> whole = retrain(ConvNet(MINI), few)
        >>> [layer.name for layer in whole.layers_upto()][-1], whole.spec.classes
        ('conv5', 16)
    """
    convs = net.features().eval()
    x, classes = handed_on(convs, dataset, progress), len(dataset.classes)
    length = x.square().sum(1).mean().sqrt()
    x, labels = x / length, np.asarray(dataset.labels)
    targets = F.one_hot(torch.from_numpy(labels), classes).float()

    def score(logits: Tensor, judged: NDArray[np.int64]) -> float:
        return per_class_accuracy(labels[judged], logits.argmax(1).numpy())

    weight, bias = fit_softmax(x, targets, choose_decay(x, targets, score))
    spec = replace(convs.spec, classes=classes, name=f"{convs.spec.name}-{dataset.name}")
    whole = ConvNet(spec, convs.preparation)
    whole.load_state_dict(convs.state_dict() | {"fc8.weight": weight / length, "fc8.bias": bias})
    return whole.eval()


@torch.no_grad()
def handed_on(convs: ConvNet, dataset: Dataset, progress: bool = False) -> Tensor:
    """Return what the last convolutional layer hands on for every picture of a data set: float32 [n, d]."""
    starts = tqdm(range(0, len(dataset), BATCH), dataset.name, unit="batch", disable=not progress)
    parts = []
    for start in starts:
        pictures = [dataset[i].picture for i in range(start, min(start + BATCH, len(dataset)))]
        parts.append(convs.convolved(convs.prepare(pictures)).flatten(1).cpu())
    return torch.cat(parts)
