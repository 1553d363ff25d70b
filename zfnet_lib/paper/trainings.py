"""Named trainings: an architecture on a data set by a recipe, with its records and the weights it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ..architecture import MINI, NARROW, STEMS, TABLE_2, ArchSpec, architecture
from ..batches import squares_of, training_preparation, unreadable
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
from ..datasets.folders import Index, PictureFiles
from ..datasets.overlap import known_overlaps
from ..deconv import alone as unit_alone
from ..deconv import project, strongest_unit
from ..evaluation import Errors, errors
from ..files import (
    UnwritableError,
    ZfnetError,
    alone,
    data_root,
    is_busy,
    is_there,
    library_hash,
    notice,
    results_root,
    trained_root,
)
from ..machine import has_bf16, is_first, own_device
from ..network import ConvNet
from ..training import RECIPES, TINY, EpochResult, OnPlateau, Progress, Recipe, saved_states, train
from ..weights import CheckpointError, Stored, known_classes, load_network, read_meta, save_network
from . import records
from .transfer import MOST, fit_labels, protocol_folds

ALTERED = ("clip", "precision", "epochs", "batch", "views")
"""What of a recipe a training may change; its name says so."""

TRAIN_SAMPLE = 10_000
"""Training pictures, drawn with seed 0, on which the training error of Table 2 is measured."""

COLUMNS = {"train top-1 error": "train", "val top-1 error": "val1", "val top-5 error": "val5"}
"""What tables and claims call the errors that records name."""


@dataclass(frozen=True)
class Training:
    """One training, named so that everybody who runs it means the same."""

    network: str  # a named architecture
    data: str
    recipe: Recipe
    seed: int = 0  # of weights, order, views and dropout
    each: int = 0  # pictures a class, of the fold `seed` (5.2); 0: the split `train`, or all but a tenth

    def __post_init__(self) -> None:
        if not (0 <= self.seed < 2**63 and self.each >= 0):
            raise ZfnetError(
                f"seed {self.seed}, {self.each} pictures a class: no number may be negative, nor a seed above 2^63"
            )
        # without validation the rate falls as in `TINY`
        if isinstance(self.recipe.anneal, OnPlateau) and (self.each or not has_splits(self.data)):
            object.__setattr__(self, "recipe", replace(self.recipe, anneal=TINY.anneal))

    @property
    def altered(self) -> dict[str, Any]:
        """What was changed in the recipe."""
        named, own = (vars(recipe) for recipe in (RECIPES.get(self.recipe.name, self.recipe), self.recipe))
        return {key: own[key] for key in ALTERED if own[key] != named[key]}

    @property
    def name(self) -> str:
        """For example `zfnet-tiny-imagenet-tiny-seed0`; what is altered in the recipe is part of it."""
        changes = "".join(f"-{key}-{value}" for key, value in self.altered.items())
        data = self.data.replace(":", "-").replace("/", "-")
        each = f"-{self.each}-a-class" if self.each else ""
        return f"{self.network}{changes}-{data}{each}-{self.recipe.name}-seed{self.seed}"

    @property
    def command(self) -> str:
        """What performs it, or goes on with it."""
        more = self.altered | {key: getattr(self, key) for key in ("each", "seed") if getattr(self, key)}
        changes = "".join(f" --{key} {value}" for key, value in more.items())
        return f"zfnet train {self.network} --data {self.data} --recipe {self.recipe.name}{changes}"

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


def performed(training: Training, left: Literal["errors_file", "weights"] = "errors_file") -> Training:
    """Return a training, or the same in float32 where only that has left errors, or weights; both learn alike."""
    # bfloat16 is the recipes' precision, and processors without its instructions would take weeks
    other = replace(training, recipe=replace(training.recipe, precision="float32"))
    return other if is_there(getattr(other, left)) and not is_there(getattr(training, left)) else training


class Pictures(NamedTuple):
    """What a training learns from, and what its errors are measured on."""

    data: Dataset
    exclude: np.ndarray  # rows that are not learnt from
    validation: Dataset
    rows: np.ndarray | None  # those for errors; None: all, after every epoch too


def training_pictures(training: Training, readable: Callable[[Dataset], Dataset] = lambda data: data) -> Pictures:
    """Return a training's pictures: the splits of its data, or a fold of data that have none (section 5.2)."""
    if not training.each and has_splits(training.data):
        data, validation = (readable(training_data(training.data, split)) for split in ("train", "val"))
        return Pictures(data, excluded_rows(data), validation, None)
    if training.each:
        data = readable(undivided(training.data))
        most = max(training.each, MOST[training.data])
        fold = protocol_folds(data, most, count=training.seed + 1)[training.seed]
        kept, tested = fold.train(training.each), fold.test
    else:
        data = readable(training_data(training.data, "all"))
        order = np.random.default_rng(0).permutation(len(data))
        kept, tested = order[len(order) // 10 :], np.sort(order[: len(order) // 10])
    return Pictures(data, np.setdiff1d(np.arange(len(data)), kept), data, tested)


def has_splits(data: str) -> bool:
    """Tell whether a data set comes with validation pictures; others are divided here."""
    return data not in DATASETS or "all" not in DATASETS[data].splits


def undivided(name: str) -> Dataset:
    """Return the pictures of which the folds of section 5.2 are drawn; several splits are pooled."""
    if name not in MOST:
        raise ZfnetError(f"{name} has a split of its own for training; leave out --each")
    if name.startswith("shapes"):
        return training_data(name, "val")
    if has_splits(name):
        return Pooled([training_data(name, split) for split in ("train", "val")])
    return training_data(name, "all")


def training_data(name: str, split: str) -> Dataset:
    """Return the pack of a split; of a fetched data set the pictures themselves where it is not packed."""
    if name not in DATASETS or DATASETS[name].reader is None:  # made in code, or a folder of one's own
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


def epochs(
    training: Training,
    *,
    resume: bool = False,
    workers: int = 0,
    compiled: bool = False,
    report: Callable[[Progress], None] | None = None,
    notice: Callable[[str], None] = lambda sentence: None,
) -> Iterator[EpochResult]:
    """Perform a training, or go on with it; leave a line of its record an epoch, then weights and errors."""
    if workers < 0:
        raise ZfnetError(f"{workers} decoding processes are impossible; 0 decodes in this one")

    def readable(data: Dataset) -> Dataset:
        if isinstance(data, Pack):
            data.verify()  # a second a gigabyte, before hours that would rest on damaged pixels
        # packing left out what cannot be read; of pictures that are not packed that is done here
        lost = unreadable(data, workers) if isinstance(data, PictureFiles) else {}
        if not lost:
            return data
        named = ", ".join(data.names[row] for row in list(lost)[:5]) + (" …" if len(lost) > 5 else "")
        notice(f"pictures of {data.name} {data.split} that cannot be read are left out: {len(lost)}, {named}")
        whole, kept = data.index, np.setdiff1d(np.arange(len(data)), list(lost))
        files, boxes = (values and tuple(values[row] for row in kept) for values in (whole.files, whole.boxes))
        index = Index(whole.classes, files, whole.labels[kept], boxes)
        return PictureFiles(data.name, data.split, data.root, index, data.origin)

    pictures = training_pictures(training, readable)
    data, exclude, validation, rows = pictures
    if rows is None and len(exclude):
        notice(f"{len(exclude):,} pictures of {data.name} are left out: `zfnet overlap` found them in others too")
    if training.recipe.precision == "bfloat16" and not has_bf16():
        notice("this machine emulates bfloat16; --precision float32 may be many times faster")
    net = _untrained(training, pictures, workers).to(own_device())
    watch, first = records.Stopwatch(), is_first()
    if first and is_busy(training.folder):
        raise ZfnetError(f"another process trains {training.name}; wait for it, or choose another seed")
    with alone(training.folder) if first else nullcontext():  # under `torchrun` every process comes here
        drawn = {"seed": training.seed, "exclude": exclude, "workers": workers, "compiled": compiled}
        kept = {"folder": training.folder, "resume": resume, "snapshots": True}
        judged = validation if rows is None else None
        how = {"validation": judged, "report": report, "notice": notice}
        recorded = read_epochs(training.epochs_file)  # shipped ones too; they are not recorded again
        for epoch in train(net, data, training.recipe, **how, **drawn, **kept):
            line = _line(training, epoch, pictures, watch.provenance(training.seed, net.device))
            if first and all(line["epoch"]["epoch"] != before["epoch"]["epoch"] for before in recorded):
                recorded.append(line)
                _write_epochs(training, recorded)
            yield epoch
        if first:
            facts = {key: line[key] for key in ("training", "data", "recipe", "seed", "epoch")}
            save_network(net, training.weights, facts | {"classes": list(data.classes)})
            if not training.errors_file.exists():
                records.append(training.errors_file, _measured(training, net, pictures, (1, 10)))


def _untrained(training: Training, pictures: Pictures, workers: int = 0) -> ConvNet:
    spec = training.spec(len(pictures.data.classes))
    preparation = training_preparation(pictures.data, spec.image_size, pictures.exclude, workers)
    return ConvNet(spec, preparation, seed=training.seed)


def _line(training: Training, epoch: EpochResult, pictures: Pictures, made: records.Provenance) -> dict[str, Any]:
    """Return what an epoch leaves in a training's record."""
    data = pictures.data
    return {
        "training": training.name,
        "network": training.network,
        "data": f"{data.name} {data.split} ({data.fingerprint})",
        "excluded": len(pictures.exclude),
        "recipe": training.recipe.to_dict(),
        "seed": training.seed,
        "epoch": asdict(epoch),
        "provenance": asdict(made),
    }


def _write_epochs(training: Training, lines: list[dict[str, Any]]) -> None:
    records.write_lines(training.epochs_file, (json.dumps(line, sort_keys=True) for line in lines))


def read_epochs(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a training's record, one an epoch."""
    try:
        return [json.loads(line) for line in records.read_lines(path)]
    except json.JSONDecodeError as error:
        raise ZfnetError(f"{path} is damaged ({error}); restore it, or remove it and train again") from error


def _measured(training: Training, net: ConvNet, pictures: Pictures, views: Sequence[int]) -> list[records.Record]:
    """Measure the errors of Table 2, on held-out and on training pictures; of a fold averaged over classes too."""
    data, exclude, validation, rows = pictures
    kept = np.setdiff1d(np.arange(len(data)), exclude)
    sample = np.sort(np.random.default_rng(0).permutation(kept)[:TRAIN_SAMPLE])
    held_out, learnt = (validation.split, data.split) if rows is None else ("test", "train")
    settings = {"networks": [training.name], "recipe": training.recipe.name, "clip": training.recipe.clip}
    found = []
    for part, n, dataset, chosen in (*((held_out, n, validation, rows) for n in views), (learnt, 1, data, sample)):
        watch = records.Stopwatch()
        measured = errors(net, dataset, n, rows=chosen)
        made = watch.provenance(training.seed, net.device)
        found += error_records(measured, dataset, made, settings, training.network, part)
        if training.each:
            mean = float(np.nanmean(measured.per_class))
            found.append(replace(found[-1], quantity=f"{part} mean per-class error", value=mean))
    return found


def error_records(
    found: Errors, data: Dataset, made: records.Provenance, settings: dict[str, Any], spec: str = "", part: str = ""
) -> list[records.Record]:
    """Return the records of errors over a part of the pictures; the settings name the `networks`."""
    told = {"spec": spec, "data": f"{data.name} {data.split} ({data.fingerprint})"}
    told |= {"n": found.n, "parameters": settings | {"views": found.views}}
    return [
        records.Record("training", f"{part or data.split} {top} error", value, "%", made, **told)
        for top, value in (("top-1", found.top1), ("top-5", found.top5))
    ]


def recorded_errors(path: Path, views: int = 1, networks: Sequence[str] = ()) -> dict[str, float]:
    """Return the errors in a file in percent, by `COLUMNS` or their quantity; `networks` names one ensemble."""
    return {
        COLUMNS.get(record.quantity, record.quantity): record.value
        for record in records.read(path)
        if record.parameters.get("views", 1) == views
        and (not networks or record.parameters["networks"] == sorted(networks))
    }


def recorded_over_seeds(training: Training) -> list[Training]:
    """Return the trainings, a training's like with any seed, that left errors; in the order of their seeds."""
    path = training.errors_file
    before, _, _ = path.name.rpartition(f"{training.seed}.jsonl")
    seeds = [each.stem.removeprefix(before) for each in path.parent.glob(f"{before}*.jsonl")]
    return [replace(training, seed=seed) for seed in sorted(int(seed) for seed in seeds if seed.isdecimal())]


def errors_over_seeds(training: Training, seeds: int = 0) -> list[dict[str, float]]:
    """Return the recorded errors over the first seeds, or over all, from one view: by `train`, `val1`, `val5`."""
    found = [
        recorded_errors(each.errors_file)
        for each in recorded_over_seeds(training)
        if not seeds or each.seed < seeds
    ]
    return [{key: errors[key] for key in COLUMNS.values() if key in errors} for errors in found if errors]


def require_same_classes(weights: str, net: ConvNet, data: Dataset) -> None:
    """Refuse data of other classes than those that weights were trained on, as far as the weights tell."""
    ours, theirs = known_classes(weights), data.classes
    repair = "evaluate it on the data that it was trained on"
    if net.spec.classes not in (0, len(theirs)):
        raise ZfnetError(
            f"{weights} tells {net.spec.classes} classes apart and {data.name} has {len(theirs)}; {repair}"
        )
    for number, (our, their) in enumerate(zip(ours, theirs, strict=False)):
        if our != their:
            raise ZfnetError(f"class {number} is {our!r} to {weights} and {their!r} in {data.name}; {repair}")


@cache
def trained(training: Training) -> ConvNet:
    """Return a network of `smoke`, which is trained on the spot and leaves its records."""
    code, weights = f"{library_hash()}, torch {torch.__version__}", trained_root() / training.name / "weights"
    left = (training.errors_file, training.epochs_file)
    with alone(weights.parent):
        try:
            net = load_network(weights)  # damaged ones are trained again
            if read_meta(weights)["record"].get("code") == code and all(map(Path.exists, left)):
                return net
        except CheckpointError:
            pass
        pictures, watch = training_pictures(training), records.Stopwatch()
        data, exclude, validation, rows = pictures
        net = _untrained(training, pictures)
        how = {"validation": validation if rows is None else None, "seed": training.seed, "exclude": exclude}
        lines = [
            _line(training, epoch, pictures, watch.provenance(training.seed))
            for epoch in train(net, data, training.recipe, **how)
        ]
        _write_epochs(training, lines)
        records.store(training.errors_file, _measured(training, net, pictures, (1,)))
        return load_network(save_network(net, weights, {"code": code}))


# The trainings that Tables 1 and 2 and Fig. 5 rest on, in the order in which they are worth having.

WIDE = "zfnet-maps-512-1024-512"
FIVE = tuple(("zfnet", seed) for seed in range(5))
TABLE_1 = ((("krizhevsky", 0),), (("zfnet", 0),), FIVE, ((WIDE, 0),), (*FIVE, (WIDE, 0)))
"""The networks, each with its seed, whose probabilities each row of Table 1 averages: one, one, (a), (b), both."""


def queue(data: str, recipe: Recipe) -> list[Training]:
    """Return all trainings of one data set, those that more rests on first."""
    # the three base runs; the other rows of Table 2, cheapest first, and the crossed stems; further seeds
    rows = sorted(
        TABLE_2.keys() - {"zfnet", "krizhevsky"}, key=lambda row: (sum(TABLE_2[row].macs().values()), row)
    )
    others = [*rows, *STEMS]
    wanted = [("zfnet", 0), ("krizhevsky", 0), *((name, 0) for name in others)]
    wanted += [*FIVE[1:], ("krizhevsky", 1), ("krizhevsky", 2), *((name, 1) for name in others)]
    trainings = [Training(name, data, recipe, seed) for name, seed in wanted]
    return [*trainings[:2], Training("zfnet", data, replace(recipe, clip="none")), *trainings[2:]]


def state(training: Training) -> Literal["ran", "runs", "begun", "stored", "to come"]:
    """Return how far a training has come on this machine; where only its record is here, it is `stored`."""
    recorded = training.errors_file.exists()
    if recorded and is_there(training.weights):
        return "ran"
    if is_busy(training.folder):
        return "runs"
    if saved_states(training.folder):
        return "begun"
    return "stored" if recorded else "to come"


def report(trainings: Sequence[Training]) -> Iterator[str]:
    """Yield a line for each training: its state, its error where it ran, and its name."""
    for training in trainings:
        error = recorded_errors(training.errors_file).get("val1")
        shown = " " * 8 if error is None else f"{error:6.1f} %"
        yield f"{state(training):8}{shown}  {training.name}"


def lacks(training: Training, data: str, recipe: Recipe) -> bool:
    """Tell whether Tables 1 and 2 lack what a training leaves: errors, or weights for an ensemble of Table 1."""
    if state(training) == "stored":
        return any(training in members for members in _unmeasured(data, recipe))
    return state(training) in ("begun", "to come")


def measure_ensembles(data: str, recipe: Recipe) -> Iterator[str]:
    """Measure the ensembles of Table 1 that are at hand and have no record yet; yield a sentence about each."""
    for trainings in _unmeasured(data, recipe):
        if not all(is_there(training.weights) for training in trainings):
            continue
        settings = {"networks": sorted(training.name for training in trainings), "recipe": recipe.name}
        watch, pictures = records.Stopwatch(), training_data(data, "val")
        found = errors([load_network(training.weights) for training in trainings], pictures)
        records.append(ensembles_file(recipe.name), error_records(found, pictures, watch.provenance(0), settings))
        yield f"ensemble of {len(trainings)}: top-1 error {found.top1:.2f} %, top-5 error {found.top5:.2f} %"


def ensembles_file(recipe: str) -> Path:
    """Return the file of the errors of Table 1's ensembles."""
    return results_root(recipe) / "errors" / "ensembles.jsonl"


def _unmeasured(data: str, recipe: Recipe) -> Iterator[list[Training]]:
    """Yield the ensembles of Table 1 that have no record."""
    for members in TABLE_1:
        trainings = [Training(name, data, recipe, seed) for name, seed in members]
        names = [training.name for training in trainings]
        if len(trainings) > 1 and not recorded_errors(ensembles_file(recipe.name), networks=names):
            yield trainings


# The trained weights that come with the project: made small, and measured against the training they come from.

TOLERANCE = 0.1  # points of top-1 error that the stored weights may differ by from the trained ones

NATIVE = replace(TINY, epochs=60)
"""Of the stems that learn from pictures of more pixels than Tiny-ImageNet's: fewer pictures, more often."""


class Shipped(NamedTuple):
    """Weights that ship from a training."""

    training: Training
    upto: str  # the last layer that ships; all layers where it is empty
    stored: Stored
    good_for: str


class Retrained(NamedTuple):
    """A shipped softmax on the convolutions of weights that are fetched (section 5.2)."""

    base: str  # the weights that it stands on
    data: str  # what its classes are from; a tenth of each class is held out
    good_for: str


STEM = "conv2", "float16", "stems at native resolution (Fig. 5)"
PROJECTIONS = "projections, strongest units, occlusion and transfer on a laptop; not a classifier to rely on"
FEATURES = "a classifier on ImageNet's features, whole: occlusion on photographs (Fig. 6)"
ZFNET_RUN, KRIZHEVSKY_RUN, UNCLIPPED_RUN = queue("tiny-imagenet", TINY)[:3]

SHIPPED = {
    "zfnet-tiny": Shipped(ZFNET_RUN, "", "int8", PROJECTIONS),
    "krizhevsky-tiny": Shipped(KRIZHEVSKY_RUN, "conv2", "float16", "comparing the first two layers (Fig. 5)"),
    "zfnet-tiny-not-renormalised": Shipped(UNCLIPPED_RUN, "conv2", "float16", "filters that dominate (Fig. 5a)"),
    "zfnet-caltech-101-stem": Shipped(Training("zfnet", "caltech-101", NATIVE), *STEM),
    "krizhevsky-caltech-101-stem": Shipped(Training("krizhevsky", "caltech-101", NATIVE), *STEM),
}
"""All weights that ship from a training, by name; `load_network` takes these names."""

RETRAINED = {"alexnet-caltech-101": Retrained("alexnet-imagenet", "caltech-101", FEATURES)}
"""All softmaxes that ship, by name."""


def ship(name: str) -> Iterator[str]:
    """Store weights under `results/`: of a finished training, or a new softmax; yield a sentence a measurement."""
    if name not in SHIPPED | RETRAINED:
        raise ZfnetError(f"{name!r} is not shipped; shipped are {', '.join(SHIPPED | RETRAINED)}")
    root = results_root(TINY.name if name in RETRAINED else SHIPPED[name].training.recipe.name)
    measured = (_ship_softmax if name in RETRAINED else _ship_training)(name, root / "weights" / name)
    records.store(root / "errors" / f"{name}.jsonl", measured)
    for record in measured:
        yield f"{record.quantity}: {record.value:.2f} {record.unit}"


def _ship_softmax(name: str, folder: Path) -> list[records.Record]:
    """Train a softmax on frozen convolutions (section 5.2), store it without these, and measure the whole."""
    base, source, good_for = RETRAINED[name]
    watch, convs = records.Stopwatch(), load_network(base).features()
    data, held_out = (training_data(source, split) for split in ("train", "val"))
    rows, labels, features = range(len(data)), np.asarray(data.labels), []
    with torch.no_grad():
        for start in tqdm(rows[::32], data.name, unit="batch"):
            x = convs.prepare([data[i].picture for i in rows[start : start + 32]])
            features.append(convs.convolved(x).flatten(1).cpu())
    x = torch.cat(features)
    # all are divided by one number, which becomes part of the weights: the network stays convolutions and softmax
    length = x.square().sum(1).mean().sqrt()
    weight, bias, _ = fit_labels(x / length, labels, len(data.classes))
    spec = replace(convs.spec, classes=len(data.classes), name=f"{convs.spec.name}-{data.name}")
    whole = ConvNet(spec, convs.preparation)
    whole.load_state_dict(convs.state_dict() | {"fc8.weight": weight / length, "fc8.bias": bias})
    facts = {
        "data": f"{data.name} {data.split} ({len(data)} pictures, {data.fingerprint})",
        "classes": list(data.classes),
        "good_for": good_for,
        "provenance": asdict(watch.provenance(0)),
    }
    return _stored_errors(name, load_network(save_network(whole, folder, facts, "float16", base)), held_out, base)


def _ship_training(name: str, folder: Path) -> list[records.Record]:
    """Store the weights of a training that has ended, unless that loses too much, and measure how much it does."""
    run, upto, kind, good_for = SHIPPED[name]
    training = performed(run, "weights")
    if not all(map(is_there, (training.weights, training.errors_file, training.epochs_file))):
        raise ZfnetError(f"{training.name} has not ended; run: {training.command} --resume")
    whole, last = load_network(training.weights), read_epochs(training.epochs_file)[-1]
    part = whole.features(upto) if upto else whole
    facts = read_meta(training.weights)["record"] | {"stored": kind, "good_for": good_for}
    facts |= {key: last[key] for key in ("excluded", "provenance")}
    with TemporaryDirectory() as temporary:
        stored = load_network(save_network(part, Path(temporary) / name, facts, kind))
    validation = training_data(training.data, "val")
    measured = list(_projection_records(name, part, stored, validation))
    for record in () if upto else _stored_errors(name, stored, validation, training.network):
        expected = recorded_errors(training.errors_file, record.parameters["views"])[COLUMNS[record.quantity]]
        if abs(record.value - expected) > TOLERANCE:
            raise ZfnetError(
                f"{record.quantity} of the stored weights is {record.value:.2f} %, of the trained ones "
                f"{expected:.2f} %; store them with more bits"
            )
        measured.append(record)
    save_network(part, folder, facts, kind)
    return measured


def _stored_errors(name: str, net: ConvNet, data: Dataset, spec: str) -> list[records.Record]:
    """Measure a stored network with one view and with ten."""
    measured = []
    for views in (1, 10):
        watch = records.Stopwatch()
        found = errors(net, data, views, progress=True)
        measured += error_records(found, data, watch.provenance(), {"networks": [name]}, spec)
    return measured


def _projection_records(
    name: str, trained: ConvNet, stored: ConvNet, validation: Dataset
) -> Iterator[records.Record]:
    """Measure how far projections of stored weights are from those of the trained ones, in percent of the norm."""
    watch, rows = records.Stopwatch(), torch.arange(min(64, len(validation)))
    data = f"{validation.name} {validation.split} ({validation.fingerprint})"
    x = trained.prepare(squares_of(validation, rows, trained.preparation))
    ours, theirs = (net.features().trace(x) for net in (trained, stored))
    for conv in trained.spec.convs:
        maps, generator = ours[conv.name].maps, torch.Generator().manual_seed(0)
        # rounding moves some maxima of nearly equal values to another place
        differences: dict[str, list[float]] = {"the same switches": [], "switches of their own": []}
        for _ in range(8):
            drawn = torch.randint(maps.shape[1], (len(maps),), generator=generator).tolist()
            units = [strongest_unit(one, map_) for one, map_ in zip(maps, drawn, strict=True)]
            signal = torch.cat([unit_alone(one[None], unit) for one, unit in zip(maps, units, strict=True)])
            expected = project(ours, conv.name, signal)
            same, own = project(replace(ours, net=stored), conv.name, signal), project(theirs, conv.name, signal)
            for kind, found in zip(differences, (same, own), strict=True):
                norms = (found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
                differences[kind] += norms[norms.isfinite()].tolist()
        for kind, values in differences.items():
            quantity, made = f"median difference of {conv.name}'s projections, {kind}", watch.provenance()
            told = {"n": len(values), "spec": name, "data": data}
            yield records.Record("shipping", quantity, 100 * median(values), "% of the norm", made, **told)
