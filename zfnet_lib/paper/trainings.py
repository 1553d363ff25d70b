"""Named trainings: an architecture on a data set by a recipe, with its records and the weights it leaves."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from operator import itemgetter
from pathlib import Path
from statistics import median, stdev
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from .. import datasets, files
from ..architecture import MINI, NARROW, STEMS, TABLE_2, ArchSpec, architecture
from ..batches import squares_of, training_preparation, unreadable
from ..datasets import DATASETS, Dataset, open_dataset
from ..datasets.folders import Index, PictureFiles
from ..datasets.overlap import known_overlaps
from ..datasets.table import file_name
from ..deconv import alone, project, strongest_unit
from ..evaluation import Errors, errors
from ..files import ZfnetError, is_there, library_hash, results_root
from ..machine import has_bf16, is_first, own_device
from ..network import ConvNet, Network
from ..training import RECIPES, TINY, Drops, EpochResult, OnPlateau, Recipe, require_new, saved_states, train
from ..weights import CheckpointError, Stored, known_classes, known_record, load_network, read_meta, save_network
from . import records
from .transfer import MOST, fit_labels, protocol_folds

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
        """What was changed in the recipe, as far as a name tells."""
        named, own = vars(RECIPES.get(self.recipe.name, self.recipe)), vars(self.recipe)
        keys = [key for key in ("clip", "precision", "epochs", "batch", "views") if own[key] != named[key]]
        return {key: own[key] for key in keys} | ({"rate": "constant"} if own["anneal"] == Drops(()) else {})

    @property
    def name(self) -> str:
        """For example `zfnet-tiny-imagenet-tiny-seed0`; what is altered in the recipe is part of it."""
        changes = "".join(f"-{key}-{value}" for key, value in self.altered.items())
        each = f"-{self.each}-a-class" if self.each else ""
        return f"{self.network}{changes}-{file_name(self.data)}{each}-{self.recipe.name}-seed{self.seed}"

    @property
    def command(self) -> str:
        """What performs it, or goes on with it."""
        more = self.altered | {key: getattr(self, key) for key in ("each", "seed") if getattr(self, key)}
        changes = "".join(f" --{key} {value}" for key, value in more.items())
        return f"zfnet train {self.network} --data {shlex.quote(self.data)} --recipe {self.recipe.name}{changes}"

    @property
    def folder(self) -> Path:
        """Where its checkpoints and snapshots lie."""
        return files.data_root() / "trainings" / self.name

    @property
    def weights(self) -> Path:
        """Where the trained network is saved."""
        return files.data_root() / "weights" / self.name

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


def performed(training: Training, left: str = "errors_file") -> Training:
    """Return a training, or the same in float32 where only that has left errors, or `weights`; both learn alike."""
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
        (fold,) = protocol_folds(data, most, count=1, first=training.seed)
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
    if has_splits(name) and not name.startswith("shapes"):
        return datasets.Pooled([training_data(name, split) for split in ("train", "val")])
    return training_data(name, "val" if has_splits(name) else "all")


def training_data(name: str, split: str) -> Dataset:
    """Return the pack of a split; of a fetched data set the pictures themselves where it is not packed."""
    if name not in DATASETS or DATASETS[name].reader is None:  # made in code, or a folder of one's own
        try:
            return datasets.pack_dataset(name, split, progress=name not in DATASETS)
        except files.UnwritableError as error:
            if name not in DATASETS:
                raise
            files.notice(f"{error}; the pictures of {name} are kept in memory")
            return datasets.pack_in_memory(open_dataset(name, split), DATASETS[name].side)
    try:
        return datasets.open_pack(name, split)
    except datasets.MissingDataError:
        return open_dataset(name, split)


def excluded_rows(data: Dataset) -> np.ndarray:
    """Return the pictures that also stand in a data set to test on, as far as `zfnet overlap` looked (5.2)."""
    rows = [overlap.rows_in(data) for overlap in known_overlaps(data.name, data.split)]
    return np.unique(np.concatenate(rows)) if rows else np.empty(0, np.int64)


def epochs(
    training: Training, *, workers: int = 0, notice: Callable[[str], None] = lambda sentence: None, **how
) -> Iterator[EpochResult]:
    """Perform a training, or go on with it; leave a line of its record an epoch, then weights and errors."""
    # `how` is what `train` takes besides: resume, compiled, report
    first = is_first()
    if workers < 0:
        raise ZfnetError(f"{workers} decoding processes are impossible; 0 decodes in this one")
    if first and files.is_busy(training.folder):
        raise ZfnetError(f"another process trains {training.name}; wait for it, or choose another seed")
    if not how.get("resume"):
        require_new(training.folder)

    def readable(data: Dataset) -> Dataset:
        if isinstance(data, datasets.Pooled):
            return datasets.Pooled([readable(part) for part in data.parts])
        if isinstance(data, datasets.Pack):
            data.verify()  # a second a gigabyte, before hours that would rest on damaged pixels
        # packing left out what cannot be read; of pictures that are not packed that is done here
        lost = list(unreadable(data, workers)) if isinstance(data, PictureFiles) else []
        if not lost:
            return data
        named = ", ".join(data.names[row] for row in lost[:5]) + (" …" if len(lost) > 5 else "")
        notice(f"pictures of {data.name} {data.split} that cannot be read are left out: {len(lost)}, {named}")
        kept, found = np.setdiff1d(np.arange(len(data)), lost), data.index
        index = Index(found.classes, tuple(found.files[row] for row in kept), found.labels[kept])
        return PictureFiles(data.name, data.split, data.root, index, data.origin)

    pictures = training_pictures(training, readable)
    if pictures.rows is None and (left_out := len(pictures.exclude)):
        found = "`zfnet overlap` found them in others too"
        notice(f"{left_out:,} pictures of {pictures.data.name} are left out: {found}")
    if training.recipe.precision == "bfloat16" and not has_bf16():
        notice("this machine emulates bfloat16; --precision float32 may be many times faster")
    how |= {"folder": training.folder, "snapshots": True, "workers": workers, "notice": notice}
    net, finished = _begun(training, pictures, **how)
    watch = records.Stopwatch()
    with files.alone(training.folder) if first else nullcontext():  # under `torchrun` every process comes here
        recorded = read_epochs(training.epochs_file)  # shipped ones too; they are not recorded again
        for epoch in finished:
            line = _line(training, epoch, pictures, watch.provenance(training.seed, net.device))
            if first and any(line[key] != before[key] for before in recorded for key in ("data", "excluded")):
                notice(f"the record of {training.name} is of other pictures; it begins anew")
                recorded = []
            if first and all(epoch.epoch != before["epoch"]["epoch"] for before in recorded):
                recorded.append(line)
                _record(training, recorded)
            yield epoch
        if first:
            facts = {key: line[key] for key in ("training", "data", "recipe", "seed", "epoch")}
            save_network(net, training.weights, facts | {"classes": list(pictures.data.classes)})
            if line["data"] not in {record.data for record in records.read(training.errors_file)}:
                records.store(training.errors_file, measured_errors(training, net, pictures, (1, 10)))


def _begun(run: Training, pictures: Pictures, workers=0, **how) -> tuple[ConvNet, Iterator[EpochResult]]:
    """Return a network with its first weights, and the epochs that train it as they are asked for."""
    data, exclude, validation, rows = pictures
    spec = run.spec(len(data.classes))
    preparation = training_preparation(data, spec.image_size, exclude, workers)
    net = ConvNet(spec, preparation, seed=run.seed).to(own_device())
    how |= {"validation": validation if rows is None else None, "exclude": exclude, "workers": workers}
    return net, train(net, data, run.recipe, seed=run.seed, **how)


def _line(training: Training, epoch: EpochResult, pictures: Pictures, made: records.Provenance) -> dict[str, Any]:
    """Return what an epoch leaves in a training's record."""
    return {
        "training": training.name,
        "network": training.network,
        "data": _named(pictures.data),
        "excluded": len(pictures.exclude),
        "recipe": training.recipe.to_dict(),
        "seed": training.seed,
        "epoch": asdict(epoch),
        "provenance": asdict(made),
    }


def _named(data: Dataset) -> str:
    return f"{data.name} {data.split} ({data.fingerprint})"


def _record(training: Training, lines: list[dict[str, Any]]) -> None:
    records.write_lines(training.epochs_file, map(partial(json.dumps, sort_keys=True), lines))


def read_epochs(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a training's record, one an epoch."""
    try:
        return [json.loads(line) for line in records.read_lines(path)]
    except json.JSONDecodeError as error:
        raise ZfnetError(f"{path} is damaged ({error}); restore it, or remove it and train again") from error


def measured_errors(
    training: Training, net: ConvNet, pictures: Pictures, views: Sequence[int]
) -> list[records.Record]:
    """Measure the errors of Table 2, on held-out and on training pictures; of a fold averaged over classes too."""
    data, exclude, validation, rows = pictures
    kept = np.setdiff1d(np.arange(len(data)), exclude)
    sample = np.sort(np.random.default_rng(0).permutation(kept)[:10_000])
    held_out, learnt = (validation.split, data.split) if rows is None else ("test", "train")
    settings = {"networks": [training.name], "recipe": training.recipe.name, "clip": training.recipe.clip}
    found = []
    for part, n, dataset, chosen in (*((held_out, n, validation, rows) for n in views), (learnt, 1, data, sample)):
        watch = records.Stopwatch()
        measured = errors(net, dataset, n, rows=chosen)
        made = watch.provenance(training.seed, net.device)
        found += error_records(measured, dataset, made, settings, training.network, part, bool(training.each))
    return found


def error_records(
    found: Errors, data: Dataset, made: records.Provenance, settings: dict, spec="", part="", per_class=False
) -> list[records.Record]:
    """Return the records of errors over a part of the pictures; the settings name the `networks`."""
    told = {"n": found.n, "parameters": settings | {"views": found.views}, "spec": spec, "data": _named(data)}
    values = {"top-1": found.top1, "top-5": found.top5}
    values |= {"mean per-class": float(np.nanmean(found.per_class))} if per_class else {}
    quantities = {f"{part or data.split} {which} error": value for which, value in values.items()}
    return [records.Record("training", name, value, "%", made, **told) for name, value in quantities.items()]


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


def errors_over_seeds(training: Training, seeds: int = 0, views: int = 1) -> list[dict[str, float]]:
    """Return the errors of the first seeds, or of all, from one view or ten, as `recorded_errors` does."""
    runs = [run for run in recorded_over_seeds(training) if not seeds or run.seed < seeds]
    return [found for run in runs if (found := recorded_errors(run.errors_file, views))]


def between_seeds(like: Training, of: Callable[[Mapping[str, float]], float]) -> tuple[records.Spread, str]:
    """Return the spread of an error between seeds, and a sentence on what it rests on.

    It is taken to be the same for all networks trained on that data by that recipe, altered or not, and is pooled
    over those that were trained more than once.
    """
    groups: dict[str, list[float]] = {}
    ending = f"-{file_name(like.data)}-{like.recipe.name}-seed"
    for path in sorted(like.errors_file.parent.glob(f"*{ending}*.jsonl")):
        # names of tiny-imagenet end like those of imagenet
        if all(record.data.startswith(f"{like.data} ") for record in records.read(path)):
            groups.setdefault(path.name.rpartition(ending)[0], []).append(of(recorded_errors(path)))
    several = {name: found for name, found in groups.items() if len(found) > 1}
    spread = records.pooled(several.values())
    if not several:
        return spread, "No network was trained with a second seed: the spread between seeds is unknown."
    own = ", ".join(f"`{name}` {stdev(found):.2f} (n = {len(found)})" for name, found in several.items())
    return spread, f"Spread between seeds {spread.deviation:.2f} points, pooled over {own}."


def cost(runs: Sequence[Training]) -> str:
    """Say how long trainings take together on each machine that has trained by their recipe, undisturbed."""
    if not runs:
        return "minutes"
    rates: dict[tuple[str, str], list[float]] = {}  # multiply-adds a second
    for path in runs[0].epochs_file.parent.glob("*.jsonl"):
        for line in read_epochs(path):
            work = _macs(line["network"]) * line["epoch"]["images_per_second"]
            rates.setdefault((line["provenance"]["device"], line["recipe"]["precision"]), []).append(work)
    whole = 0
    for run in runs:
        entry = DATASETS[run.data]
        pictures = run.each * entry.classes or entry.images.get("train") or entry.images["all"] * 9 // 10
        whole += _macs(run.network) * run.recipe.epochs * pictures
    hours: dict[str, float] = {}  # in the precision that is faster there
    for (device, _), found in rates.items():
        # Others may have shared a machine: its fastest quarter of epochs.
        hours[device] = min(whole / float(np.quantile(found, 0.75)) / 3600, hours.get(device, float("inf")))
    told = [
        f"{f'{length:.1f} h' if length >= 1 else f'{60 * length:.0f} minutes'} on {device}"
        for device, length in sorted(hours.items(), key=itemgetter(1))
    ]
    return f"about {' or '.join(told)}" if told else "no training here to reckon the hours from"


def _macs(network: str) -> int:
    """Return the multiply-adds of a network on one picture of 112 pixels."""
    return sum(replace(architecture(network), image_size=112, classes=200).macs().values())


def require_fair(weights: str, net: Network, data: Dataset) -> None:
    """Refuse data of other classes than weights learnt, or of which they learnt a part, as far as they tell."""
    ours, theirs, repair = net.classes, data.classes, "evaluate it on the data that it was trained on"
    if ours not in (0, len(theirs)):
        raise ZfnetError(f"{weights} tells {ours} classes apart and {data.name} has {len(theirs)}; {repair}")
    for number, (our, their) in enumerate(zip(known_classes(weights), theirs, strict=False)):
        if our != their:
            raise ZfnetError(f"class {number} is {our!r} to {weights} and {their!r} in {data.name}; {repair}")
    record = known_record(weights)  # which may name a part that is no split
    learnt = re.fullmatch(rf"{re.escape(data.name)} (\S+) \(.*\)", str(record.get("data")))
    if learnt and learnt[1] != "train" and "training" in record:
        stand = results_root(record["recipe"]["name"]) / "errors" / f"{record['training']}.jsonl"
        raise ZfnetError(f"{weights} learnt from a part of {data.name}; its errors on the rest stand in {stand}")


@cache
def trained(training: Training) -> ConvNet:
    """Return a network of `smoke`, which is trained on the spot and leaves its records."""
    code = f"{library_hash()}, torch {torch.__version__}"
    weights = files.trained_root() / training.name / training.network
    with files.alone(weights.parent):
        try:
            net = load_network(weights)  # damaged ones are trained again
            left = training.errors_file.exists() and training.epochs_file.exists()
            if left and read_meta(weights)["record"].get("code") == code:
                return net.to(own_device())
        except CheckpointError:
            pass
        pictures, watch = training_pictures(training), records.Stopwatch()
        net, finished = _begun(training, pictures)
        finished = tqdm(finished, training.name, training.recipe.epochs, delay=5, unit="epoch")
        made = partial(watch.provenance, training.seed, net.device)
        _record(training, [_line(training, epoch, pictures, made()) for epoch in finished])
        records.store(training.errors_file, measured_errors(training, net, pictures, (1,)))
        return load_network(save_network(net, weights, {"code": code})).to(own_device())


FIVE = tuple(("zfnet", seed) for seed in range(5))
VARIANT = (("zfnet-maps-512-1024-512", 0),)
TABLE_1 = {
    "Our replication of Krizhevsky et al. , 1 convnet": (("krizhevsky", 0),),
    "1 convnet as per Fig. 3": (("zfnet", 0),),
    "2 convnets as per Fig. 3": FIVE[:2],  # which the paper does not print
    "5 convnets as per Fig. 3 – (a)": FIVE,
    "1 convnet as per Fig. 3 but with layers 3,4,5: 512,1024,512 maps – (b)": VARIANT,
    "6 convnets, (a) & (b) combined": FIVE + VARIANT,
}
"""By a row's printed words, the networks, each with its seed, whose probabilities the row of Table 1 averages."""


def queue(data: str, recipe: Recipe) -> list[Training]:
    """Return all trainings of one data set for Tables 1 and 2 and Fig. 5, those that more rests on first."""
    # The base networks come first, and once more for the spread over seeds; then rows with fewer parameters.
    size = {name: sum(spec.parameters().values()) for name, spec in TABLE_2.items()}
    base = ("zfnet", "krizhevsky")
    rows = sorted(TABLE_2.keys() - base, key=lambda row: (size[row], row))
    narrow, wide = ([row for row in rows if (size[row] > size["zfnet"]) is over] for over in (False, True))
    wanted = [(name, seed) for seed in (0, 1) for name in base] + [(name, 0) for name in narrow]
    wanted += [(name, 2) for name in base] + [(name, 0) for name in (*wide, *STEMS)] + [*FIVE[3:]]
    trainings = [Training(name, data, recipe, seed) for name, seed in wanted]
    return [*trainings[:2], Training("zfnet", data, replace(recipe, clip="none")), *trainings[2:]]


def state(training: Training) -> str:
    """Return how far a training has come here: `ran`, `runs`, `begun`, `to come`; `stored` is its record alone."""
    recorded = training.errors_file.exists()
    if recorded and is_there(training.weights):
        return "ran"
    if files.is_busy(training.folder):
        return "runs"
    return "begun" if saved_states(training.folder) else "stored" if recorded else "to come"


def report(trainings: Sequence[Training]) -> Iterator[str]:
    """Yield a line for each training: its state, its error where it ran, and its name."""
    for training in trainings:
        error = recorded_errors(training.errors_file).get("val1")
        shown = " " * 8 if error is None else f"{error:6.1f} %"
        yield f"{state(training):8}{shown}  {training.name}"


def lacks(training: Training, data: str, recipe: Recipe) -> bool:
    """Tell whether Tables 1 and 2 lack what a training leaves: errors, or weights for an ensemble of Table 1."""
    if state(training) == "stored":
        return not weights_of(training) and any(training in members for members in _unmeasured(data, recipe))
    return state(training) in ("begun", "to come")


def measure_ensembles(data: str, recipe: Recipe) -> Iterator[str]:
    """Measure the ensembles of Table 1 that are at hand and have no record yet; yield a sentence about each."""
    for members in _unmeasured(data, recipe):
        weights = list(map(weights_of, members))
        if not all(weights):
            continue
        settings = {"networks": sorted(training.name for training in members), "recipe": recipe.name}
        settings["weights"] = sorted(folder.name for folder in weights)  # those of another precision, perhaps
        nets = [load_network(folder).to(own_device()) for folder in weights]
        _, _, pictures, rows = training_pictures(members[0])
        for views in (1, 10):
            if recorded_errors(ensembles_file(recipe.name), views, settings["networks"]):
                continue
            watch = records.Stopwatch()
            found = errors(nets, pictures, views, rows=rows)
            told = found, pictures, watch.provenance(0, nets[0].device), settings
            part = pictures.split if rows is None else "test"
            records.append(ensembles_file(recipe.name), error_records(*told, part=part))
            told = f"top-1 error {found.top1:.2f} %, top-5 error {found.top5:.2f} %"
            yield f"ensemble of {len(members)}, {views} view{'s'[: views > 1]}: {told}"


def ensembles_file(recipe: str) -> Path:
    """Return the file of the errors of Table 1's ensembles."""
    return results_root(recipe) / "errors" / "ensembles.jsonl"


def _unmeasured(data: str, recipe: Recipe) -> Iterator[list[Training]]:
    """Yield the ensembles of Table 1 that lack a record, which ends with ten views."""
    for members in TABLE_1.values():
        runs = [Training(name, data, recipe, seed) for name, seed in members]
        if len(runs) > 1 and not recorded_errors(ensembles_file(recipe.name), 10, [run.name for run in runs]):
            yield runs


TOLERANCE = 0.1
"""Points of top-1 error that the stored weights may differ by from the trained ones."""

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


PROJECTIONS = "projections, strongest units, occlusion and transfer on a laptop; not a classifier to rely on"
FEATURES = "a classifier on ImageNet's features, whole: occlusion on photographs (Fig. 6)"
STEM = "conv2", "float16", "stems at native resolution (Fig. 5)"
ZFNET, KRIZHEVSKY, UNCLIPPED = queue("tiny-imagenet", TINY)[:3]

SHIPPED = {
    "zfnet-tiny": Shipped(ZFNET, "", "int8", PROJECTIONS),
    "krizhevsky-tiny": Shipped(KRIZHEVSKY, "conv2", "float16", "comparing the first two layers (Fig. 5)"),
    "zfnet-tiny-not-renormalised": Shipped(UNCLIPPED, "conv2", "float16", "filters that dominate (Fig. 5a)"),
    "zfnet-caltech-101-stem": Shipped(Training("zfnet", "caltech-101", NATIVE), *STEM),
    "krizhevsky-caltech-101-stem": Shipped(Training("krizhevsky", "caltech-101", NATIVE), *STEM),
}
"""All weights that ship from a training, by name; `load_network` takes these names."""

RETRAINED = {"alexnet-caltech-101": Retrained("alexnet-imagenet", "caltech-101", FEATURES)}
"""All softmaxes that ship, by name."""


def weights_of(run: Training) -> Path | None:
    """Return where the weights of a training lie: where it left them, or as they ship; None where they do not."""
    root = results_root(run.recipe.name) / "weights"
    shipped = [root / name for name, each in SHIPPED.items() if each.training == run]
    return next((folder for folder in (performed(run, "weights").weights, *shipped) if is_there(folder)), None)


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
    features = []
    with torch.no_grad():
        for rows in tqdm(torch.arange(len(data)).split(32), data.name, unit="batch"):
            x = convs.prepare([data[i].picture for i in rows.tolist()])
            features.append(convs.convolved(x).flatten(1).cpu())
    x = torch.cat(features)
    # all are divided by one number, which becomes part of the weights: the network stays convolutions and softmax
    length = x.square().sum(1).mean().sqrt()
    weight, bias, _ = fit_labels(x / length, np.asarray(data.labels), len(data.classes))
    spec = replace(convs.spec, classes=len(data.classes), name=f"{convs.spec.name}-{data.name}")
    whole = ConvNet(spec, convs.preparation)
    whole.load_state_dict(convs.state_dict() | {"fc8.weight": weight / length, "fc8.bias": bias})
    facts = {"data": f"{data.name} {data.split} ({len(data)} pictures, {data.fingerprint})", "good_for": good_for}
    facts |= {"classes": list(data.classes), "provenance": asdict(watch.provenance(0))}
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
            theirs = f"of the trained ones {expected:.2f} %; store them with more bits"
            raise ZfnetError(f"{record.quantity} of the stored weights is {record.value:.2f} %, {theirs}")
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
    x = trained.prepare(squares_of(validation, rows, trained.preparation))
    ours, theirs = (net.features().trace(x) for net in (trained, stored))
    # rounding moves some maxima of nearly equal values to another place
    traces = {"the same switches": replace(ours, net=stored), "switches of their own": theirs}
    for conv in trained.spec.convs:
        maps, generator = ours[conv.name].maps, torch.Generator().manual_seed(0)
        differences: dict[str, list[float]] = {kind: [] for kind in traces}
        for _ in range(8):
            drawn = torch.randint(maps.shape[1], (len(maps),), generator=generator).tolist()
            units = [strongest_unit(one, map_) for one, map_ in zip(maps, drawn, strict=True)]
            signal = torch.cat([alone(one[None], unit) for one, unit in zip(maps, units, strict=True)])
            expected = project(ours, conv.name, signal)
            for kind, trace in traces.items():
                error = (project(trace, conv.name, signal) - expected).flatten(1).norm(dim=1)
                share = error / expected.flatten(1).norm(dim=1)
                differences[kind] += share[share.isfinite()].tolist()
        for kind, values in differences.items():
            quantity, made = f"median difference of {conv.name}'s projections, {kind}", watch.provenance()
            told = {"n": len(values), "spec": name, "data": _named(validation)}
            yield records.Record("shipping", quantity, 100 * median(values), "% of the norm", made, **told)
