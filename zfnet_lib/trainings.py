"""Named trainings: an architecture on a data set by a recipe, with its records and the weights it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from . import records
from .batches import training_preparation
from .checkpoints import known_classes, save_network
from .datasets import (
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
from .evaluation import Errors, errors
from .files import UnwritableError, ZfnetError, alone, data_root, is_busy, is_there, notice, results_root
from .machine import has_bf16, is_first, place
from .network import ConvNet
from .overlap import known_overlaps
from .recipes import RECIPES, TINY, OnPlateau, Recipe
from .specs import MINI, NARROW, ArchSpec, architecture
from .training import EpochResult, Progress, train
from .transfer import MOST, protocol_folds

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
    net.to(place())
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
