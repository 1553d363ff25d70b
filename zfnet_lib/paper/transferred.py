"""Tables 3, 4 and 6 and Fig. 7: frozen features of many sources on other pictures, over the paper's folds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from textwrap import fill
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..architecture import MINI
from ..datasets import DATASETS, Dataset, Pooled
from ..files import results_root
from ..images import FigureError
from ..machine import threads
from ..network import ConvNet
from ..training import recipe_named
from ..weights import load_network
from . import numbers
from .plots import BLUE, GREEN, GREY, NORMAL, ORANGE, PURPLE, SMALL, VERMILION, Figure
from .records import Record, Stopwatch, read, store
from .setting import describe_pictures, profile_of
from .tables import Note, Table
from .trainings import Training, performed, scratch_training, train_from_scratch, trained, training_data, undivided
from .transfer import (
    Coordinates,
    Extractor,
    Fold,
    Hog,
    NetworkFeatures,
    Pixels,
    average_precision,
    choose_decay,
    coordinates,
    extract,
    fit_softmax,
    fit_svm,
    mean_precision,
    per_class_accuracy,
    precision_gain,
    protocol_folds,
)

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


# Tables 3, 4 and 6 beside the paper's, and the curve of Fig. 7.

SCRATCH_EPOCHS = 160

SMOKE_FOLDS = 2
"""Of the trainings from scratch in `smoke`; the other profiles show as many as were run."""

PLACE = {"smoke": ("shapes-transfer",) * 2, "tiny": ("caltech-101", "mini-imagenet-novel")}
PLACE["paper"] = ("caltech-101", "caltech-256")
"""What stands for Caltech-101 and for Caltech-256."""

MARK = "†"
DAGGER = (
    f"{MARK} A downloaded network, torchvision's AlexNet: layer 5 and not 7, trained on ImageNet's pictures, among "
    "which nobody looked for those of Caltech-101. Its rows decide no claim about other methods."
)

CONTROLS = {"untrained": ("conv5", "svm"), "hog": ("hog", "svm"), "pixels": ("pixels", "svm")}


@dataclass(frozen=True)
class Compared:
    """A table beside the paper's.

    Attributes:
        table: The paper's rows, then ours.
        verdict: What came out, in words.
        notes: What the rows rest on.
    """

    table: Table
    verdict: Note
    notes: Note


@dataclass(frozen=True)
class FewShot:
    """Fig. 7: accuracy against training pictures a class.

    Attributes:
        curves: Ours.
        printed: The paper's points for Caltech-256, by name.
        data: What ours were measured on.
        verdict: What came out, in words.
        notes: What the curves rest on.
    """

    curves: list[Curve]
    printed: dict[str, dict[int, float]]
    data: str
    verdict: Note
    notes: Note


def table3(profile: str, live: bool = False) -> Compared:
    """Compare accuracies on Caltech-101 with Table 3.

    Args:
        profile: `smoke`, `tiny` or `paper`.
        live: Compute what is stored.
    """
    return _pretraining(profile, "table_3", PLACE[profile_of(profile).name][0], (15, 30), live)


def table4(profile: str, live: bool = False) -> Compared:
    """Compare accuracies on Caltech-256, or what stands for it, with Table 4.

    Args:
        profile: `smoke`, `tiny` or `paper`.
        live: Compute what is stored.
    """
    each = (15, 30) if profile == "smoke" else (15, 30, 45, 60)
    return _pretraining(profile, "table_4", PLACE[profile_of(profile).name][1], each, live)


def table6(profile: str, live: bool = False) -> Compared:
    """Compare what each layer's features tell with Table 6.

    Args:
        profile: `smoke`, `tiny` or `paper`.
        live: Compute what is stored.
    """
    data = PLACE[profile_of(profile).name]
    sources = [source for source in SOURCES[profile] if _is_pretrained(source)]
    found = {source: transferred(profile, source, live) for source in sources}
    columns, rows = {"label": "Features", "first": "Paper, Cal-101", "second": "Paper, Cal-256"}, []
    columns |= {str(i): f"{_title(source)}, {_data(source.data)}" for i, source in enumerate(sources)}
    for row in numbers.contents()["tables"]["table_6"]["rows"]:
        layer = f"{'fc' if row['layer'] > 5 else 'conv'}{row['layer']}"
        ours = {}
        for i, source in enumerate(sources):
            each = max(trial.each for trial in source.trials)
            ours[str(i)] = _shown(accuracy(found[source], layer, row["classifier"], each))
        printed = [
            f"{row['values'][key]} ± {row['plus_minus'][key]}" for key in ("caltech_101_30", "caltech_256_60")
        ]
        rows.append({"label": row["label"], "first": printed[0], "second": printed[1]} | ours)
    risen = [_rises(source, records) for source, records in found.items()]
    return Compared(Table(columns, rows), Note(" ".join(risen)), _notes(data, found))


def fig7(profile: str, live: bool = False) -> FewShot:
    """Return the accuracy against the number of training pictures a class (Fig. 7).

    Args:
        profile: `smoke`, `tiny` or `paper`.
        live: Compute what is stored.
    """
    data = PLACE[profile_of(profile).name][1]
    found = {source: transferred(profile, source, live) for source in SOURCES[profile] if source.data == data}
    curves = []
    for source, records in found.items():
        layer, classifier = ("fc7", "softmax") if _is_pretrained(source) else _control(source)
        points = [(each, accuracy(records, layer, classifier, each)) for each in CURVE]
        curves.append(Curve(_title(source), [(each, one.value, one.spread) for each, one in points if one]))
    scratch = [(each, _scratch(profile, data, each)) for each in (15, 30, 45, 60)]
    curves.append(Curve("from scratch", [(each, *one[:2]) for each, one in scratch if one]))
    printed = {
        row["label"]: {int(key[6:]): value for key, value in row["values"].items()}
        for row in numbers.contents()["tables"]["table_4"]["rows"]
    }
    curves = [curve for curve in curves if curve.points]
    return FewShot(curves, printed, _data(data), _few(curves), _notes((data,), found))


def _pretraining(profile: str, table: str, data: str, each: Sequence[int], live: bool) -> Compared:
    """Return Table 3 or 4: the paper's rows, then ours."""
    found = {source: transferred(profile, source, live) for source in SOURCES[profile] if source.data == data}
    columns = {"label": _data(data)} | {str(n): f"{n} a class, %" for n in each}
    rows = [
        {"label": f"{row['label']} (paper)"} | {str(n): _printed(row, f"train_{n}") for n in each}
        for row in numbers.contents()["tables"][table]["rows"]
    ]
    scratch = {n: _scratch(profile, data, n) for n in each}
    rows.append({"label": "From scratch"} | {str(n): _pair(one) for n, one in scratch.items()})
    whole = {n: _scratch("paper", data, n) for n in each} if profile == "tiny" else {}
    if any(whole.values()):
        rows.append({"label": "From scratch, 224 pixels"} | {str(n): _pair(one) for n, one in whole.items()})
    for source, records in found.items():
        for layer, classifier in dict.fromkeys((trial.layer, trial.classifier) for trial in source.trials):
            shown = {str(n): _shown(accuracy(records, layer, classifier, n)) for n in each}
            if layer in ("fc7", "conv5", "hog", "pixels") and sum(map(bool, shown.values())) == len(each):
                rows.append(
                    {"label": f"{_title(source)}, {classifier} ({layer[-1] if layer[-1].isdigit() else layer})"}
                    | shown
                )
            elif not records:
                rows.append({"label": _title(source), str(each[0]): f"not run: {_command(profile, table)}"})
                break
    notes = Note(f"{_notes((data,), found)} {_scratch_made(profile, data, each)}".strip())
    return Compared(Table(columns, rows), _beats(found, scratch, each), notes)


def _scratch_made(profile: str, data: str, each: Sequence[int]) -> str:
    """Say where the trainings from scratch ran, if any did."""
    files = [run.errors_file for n in each for run in scratch_trainings(profile, data, n)]
    places = [one.provenance for path in files for one in read(path)]
    made = sorted({(place.device, place.commit[:10]) for place in places})
    return f"From scratch: {', '.join(f'on {device}, commit {commit}' for device, commit in made)}." if made else ""


def _beats(found: dict[Source, list[Record]], scratch: dict, each: Sequence[int]) -> Note:
    """Say whether pre-training beats training from scratch and the descriptor made by hand."""
    ours = {n: _best(found, n) for n in each}
    said = []
    for n in each:
        if ours[n] and scratch[n]:
            gap, doubt = ours[n].value - scratch[n][0], (ours[n].spread or 0) + (scratch[n][1] or 0)
            word = "holds" if gap > doubt else "does not hold" if gap < -doubt else "undecided"
            said.append(f"{n} a class: pre-training beats training from scratch by {gap:.1f} points ({word}).")
    missing = [str(n) for n in each if not scratch[n]]
    if missing:
        said.append(f"From scratch with {', '.join(missing)} a class: not run.")
    return Note(" ".join(said))


def _best(found: dict[Source, list[Record]], each: int) -> Record | None:
    """Return the softmax on layer 7 of the profile's own network."""
    known = (accuracy(records, "fc7", "softmax", each) for source, records in found.items() if _own(source))
    return next((one for one in known if one), None)


def _rises(source: Source, records: Sequence[Record]) -> str:
    each = max(trial.each for trial in source.trials)
    values = [accuracy(records, f"conv{n}", "svm", each) for n in range(1, 6)]
    if not all(values):
        return f"{_title(source)} on {_data(source.data)}: not run."
    steps = [b.value - a.value for a, b in pairwise(values)]
    word = "rises with every layer" if min(steps) > 0 else "does not rise with every layer"
    ends = f"({values[0].value:.1f} to {values[-1].value:.1f} %)"
    return f"{_title(source)} on {_data(source.data)}: {word} from 1 to 5 {ends}."


def _few(curves: Sequence[Curve]) -> Note:
    """Say how many pictures a class the pre-trained network needs to beat all others at their most."""
    if len(curves) < 2:
        return Note("Not run.")
    ours, others = curves[0], [point for curve in curves[1:] for point in curve.points]
    best = max(value for _, value, _ in others)
    enough = next((each for each, value, _ in ours.points if value > best), None)
    most = max(each for each, _, _ in others)
    if enough is None:
        return Note(f"{ours.name} does not beat the best of the others, {best:.1f} % with up to {most} a class.")
    return Note(
        f"With {enough} a class, {ours.name} beats the best of the others, {best:.1f} % with up to {most} a class."
    )


def _scratch(profile: str, data: str, each: int) -> tuple[float, float | None, int] | None:
    """Return mean accuracy of the trainings from scratch, its spread, and how many there are."""
    if profile == "smoke":
        for fold in range(SMOKE_FOLDS):
            train_from_scratch(each, fold)
    values = scratch_accuracies(profile, data, each)
    if not values:
        return None
    return mean(values), stdev(values) if len(values) > 1 else None, len(values)


def scratch_accuracies(profile: str, data: str, each: int) -> list[float]:
    """Return the stored accuracies of the trainings from scratch, mean over classes, in percent, one a fold."""
    found = [read(training.errors_file) for training in scratch_trainings(profile, data, each)]
    return [100 - record.value for records in found for record in records if _is_per_class(record)]


def scratch_trainings(profile: str, data: str, each: int) -> list[Training]:
    """Return the trainings from scratch that Tables 3 and 4 compare with, one on each of the paper's folds."""
    if profile == "smoke":
        return [scratch_training(each, fold) for fold in range(FOLDS)]
    recipe = replace(recipe_named(profile), epochs=SCRATCH_EPOCHS)
    return [performed(Training("zfnet", data, recipe, fold, each)) for fold in range(FOLDS)]


def _is_per_class(record: Record) -> bool:
    return record.quantity == "test mean per-class error" and record.parameters["views"] == 1


def _control(source: Source) -> tuple[str, str]:
    return CONTROLS[source.name.partition(", ")[2] or source.name]


def _is_pretrained(source: Source) -> bool:
    return not source.name.endswith(tuple(CONTROLS)) and not source.background


def _own(source: Source) -> bool:
    return any(trial.layer == "fc7" for trial in source.trials) and _is_pretrained(source)


def _title(source: Source) -> str:
    mark = f" {MARK}" if source.name.startswith("alexnet") else ""
    return f"`{source.name}`{mark}" + (", 102 classes with the background" if source.background else "")


def _data(name: str) -> str:
    return DATASETS[name].title


def _shown(record: Record | None) -> str:
    return "" if record is None else f"{record.value:.1f} ± {record.spread:.1f}"


def _pair(found: tuple[float, float | None, int] | None) -> str:
    if found is None:
        return "not run"
    value, spread, n = found
    return f"{value:.1f}" + (f" ± {spread:.1f}" if spread is not None else "") + f" (n = {n})"


def _printed(row: dict, key: str) -> str:
    value, spread = row["values"].get(key), (row.get("plus_minus") or {}).get(key)
    return "" if value is None else f"{value}" + (f" ± {spread}" if spread is not None else "")


def _command(profile: str, table: str) -> str:
    return f"`zfnet run {table.replace('_', '')} --profile {profile} --live`"


def _notes(data: Sequence[str], found: dict[Source, list[Record]]) -> Note:
    """Say how the numbers were made, where, and what is missing."""
    records = [record for group in found.values() for record in group]
    dagger = f" {DAGGER}" if any(source.name.startswith("alexnet") for source in found) else ""
    if not records:
        return Note("Nothing is stored here yet.")
    made, n = records[-1].provenance, {record.n for record in records}
    pictures = "; ".join(dict.fromkeys(record.data for record in records))
    seconds = sum(group[-1].provenance.seconds for group in found.values() if group)
    return Note(
        f"Mean over classes and ± the standard deviation over {max(n)} folds. {pictures}. Computed in "
        f"{seconds / 60:.1f} minutes on {made.device}, torch {made.versions['torch']}, commit {made.commit[:10]}."
        f"{dagger}"
    )


# Table 5: pictures that show several objects, scored by VOC's average precision.

ENOUGH = 16
"""Test pictures that must show a class before its average precision is worth reporting."""

LOSSES = {"softmax": False, "logistic": True}
"""The paper's loss, with a target uniform over the labels present, and one that permits several objects."""

PRECISION, GAIN = "average precision", "gain of mean average precision"
ONE, SEVERAL = "one object", "several objects"
BY_LOSS, BY_FEATURES = "the loss that permits several objects", "features instead of hog"

TRIED = {
    "smoke": ("mini", "fc7", "shapes-scenes"),
    "tiny": ("zfnet-tiny", "fc7", "voc-2012"),
    "paper": ("zfnet-imagenet-paper-seed0", "fc7", "voc-2012"),
}
"""Whose features of which layer, on which data set."""

PRINTED = {"ref_22": "Paper, [22]", "ref_27": "Paper, [27]", "ref_21": "Paper, [21]", "ours": "Paper, theirs"}


def table5(profile: str, live: bool = False) -> Compared:
    """Compare average precisions on PASCAL VOC 2012, or on scenes of `shapes`, with Table 5.

    Args:
        profile: `smoke`, `tiny` or `paper`.
        live: Compute what is stored.
    """
    network, layer, data = TRIED[profile_of(profile).name]
    path = several_file(profile)
    if live or (profile == "smoke" and not is_fresh(path)):
        store(path, several_records(data, ((network, layer), ("hog", "hog"))))
    found = read(path)
    ways = {f"{network} softmax": (network, "softmax"), f"{network} logistic": (network, "logistic")}
    ways["hog softmax"] = ("hog", "softmax")
    columns = {"class": "Class", "positives": "Pictures"} | (PRINTED if data == "voc-2012" else {})
    columns |= {way: f"`{name}`, {loss}" for way, (name, loss) in ways.items()}
    if not found:
        command = f"`zfnet run table5 --profile {profile} --live`"
        return Compared(Table({"command": "Not run"}, [{"command": command}]), Note(""), Note(""))
    rows = _rows(found, ways, data)
    made = found[-1].provenance
    subset = " Most of these pictures show animals: no mean over them compares with the paper's." * (
        profile == "tiny"
    )
    notes = Note(
        f"Classes with at least {ENOUGH} test pictures.{subset} {found[0].data}; computed in {made.seconds:.0f} s "
        f"on {made.device}, commit {made.commit[:10]}."
    )
    return Compared(Table(columns, _as_printed(rows)), _verdict(rows, network), notes)


def several_file(profile: str) -> Path:
    """Return where the records of Table 5 lie."""
    return results_root(profile) / "transfer" / f"several--{TRIED[profile_of(profile).name][2]}.jsonl"


def several_records(data: str, sources: Sequence[tuple[str, str]]) -> Iterator[Record]:
    """Measure the average precision of every class that enough test pictures show, and what raises it.

    Args:
        data: A data set with several labels a picture.
        sources: Names of weights or controls, each with a layer: features, then what they must beat.
    """
    train, test, pictures = _parts(data)
    labels, scores, watch = pictures.labels[test], {}, Stopwatch()
    record = partial(Record, "transfer", data=describe_pictures(pictures))
    for name, layer in sources:
        kernel = extract(extractor_of(name, (layer,)), pictures)[layer].kernel()
        x = coordinates(kernel, train, test)
        for loss, several in LOSSES.items():
            decay, scores[name, loss] = _answers(x, pictures.labels[train], several)
            for label in _common(labels):
                value = average_precision(labels[:, label], scores[name, loss][:, label])
                place = {"class": pictures.classes[label], "loss": loss, "layer": layer, "decay": decay}
                n = int((labels[:, label] == 1).sum())
                yield record(PRECISION, value, "%", watch.provenance(), n, parameters=place, spec=name)
    (network, layer), (control, _) = sources
    softmax = scores[network, "softmax"]
    for by, some, others in (
        (BY_LOSS, scores[network, "logistic"], softmax),
        (BY_FEATURES, softmax, scores[control, "softmax"]),
    ):
        for shown, rows, classes in _kinds(labels, alike=by == BY_FEATURES):
            gain, error = precision_gain(labels[rows], some[rows], others[rows], classes)
            place = {"by": by, "shown": shown, "layer": layer, "classes": [pictures.classes[c] for c in classes]}
            place |= {"low": gain - 2 * error, "high": gain + 2 * error}
            yield record(GAIN, gain, "points", watch.provenance(), len(rows), parameters=place, spec=network)


def _answers(x: Coordinates, labels: np.ndarray, several: bool) -> tuple[float, np.ndarray]:
    """Return the chosen weight decay, and the scores of the test pictures [m, classes]."""
    present = torch.from_numpy(labels == 1).float()
    targets = present if several else present / present.sum(1, keepdim=True)

    def score(logits: Tensor, judged: np.ndarray) -> float:
        held = labels[judged]
        return mean_precision(held, logits.numpy(), _common(held, least=1))

    decay = choose_decay(x.train, targets, score, several)
    return decay, F.linear(x.test, *fit_softmax(x.train, targets, decay, several)).numpy()


def _common(labels: np.ndarray, least: int = ENOUGH) -> list[int]:
    """Return the classes that at least so many pictures show."""
    return [label for label in range(labels.shape[1]) if (labels[:, label] == 1).sum() >= least]


def _kinds(labels: np.ndarray, alike: bool) -> Iterator[tuple[str, np.ndarray, list[int]]]:
    """Yield the test pictures of one object and those of several, with the classes that enough of them show.

    Args:
        labels: [pictures, classes], 1 where a class is present.
        alike: Take the same classes for both, so that the two can be compared.
    """
    objects = (labels == 1).sum(1)
    rows = {ONE: np.flatnonzero(objects == 1), SEVERAL: np.flatnonzero(objects > 1)}
    classes = {shown: _common(labels[some]) for shown, some in rows.items()}
    if alike:
        both = sorted(set(classes[ONE]) & set(classes[SEVERAL]))
        classes = dict.fromkeys(rows, both)
    yield from ((shown, rows[shown], classes[shown]) for shown in rows if classes[shown])


def _parts(data: str) -> tuple[np.ndarray, np.ndarray, Pooled]:
    """Return training and test rows, and the pictures; scenes of `shapes` are halved."""
    if data.startswith("shapes"):
        pictures = Pooled([training_data(data, "val")])
        rows = np.arange(len(pictures))
        train, test = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    else:
        pictures = Pooled([training_data(data, split) for split in ("train", "val")])
        rows = np.arange(len(pictures))
        train, test = rows[: pictures.ends[0]], rows[pictures.ends[0] :]
    return train[(pictures.labels[train] == 1).any(1)], test, pictures


def _rows(found: Sequence[Record], ways: dict[str, tuple[str, str]], data: str) -> list[dict]:
    """Return a row a class, then their mean, then how many classes each way wins."""
    values: dict[str, dict] = {}
    for record in (one for one in found if one.quantity == PRECISION):
        row = values.setdefault(record.parameters["class"], {"positives": record.n})
        row[f"{record.spec} {record.parameters['loss']}"] = record.value
    printed = {row["label"].lower(): row["values"] for row in numbers.contents()["tables"]["table_5"]["rows"]}
    rows = [
        {"class": name} | row | (printed.get(SPELT.get(name, name), {}) if data == "voc-2012" else {})
        for name, row in values.items()
    ]
    keys = [*ways, *PRINTED] if data == "voc-2012" else list(ways)
    means = {key: float(np.mean([row[key] for row in rows])) for key in keys}
    won = {way: sum(row[way] == max(row[other] for other in ways) for row in rows) for way in ways}
    if data == "voc-2012":
        won |= {key: sum(row[key] == max(row[other] for other in PRINTED) for row in rows) for key in PRINTED}
    return [*rows, {"class": "**mean of these**"} | means, {"class": "**# won of these**"} | won]


def _as_printed(rows: Sequence[dict]) -> list[dict]:
    """Return the rows with one decimal, as the paper prints them."""
    return [
        {key: round(value, 1) if isinstance(value, float) else value for key, value in row.items()} for row in rows
    ]


SPELT = {"aeroplane": "airplane", "diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "tv"}
"""The paper's names where they differ from the data set's."""


def _verdict(rows: Sequence[dict], network: str) -> Note:
    *classes, _, _ = rows
    gaps = [row[f"{network} logistic"] - row[f"{network} softmax"] for row in classes]
    doubt = float(np.std(gaps, ddof=1) / len(gaps) ** 0.5)
    word = "higher" if np.mean(gaps) > 2 * doubt else "lower" if np.mean(gaps) < -2 * doubt else "undecided"
    return Note(
        f"A loss that permits several objects changes the average precision by {np.mean(gaps):+.1f} points on "
        f"average over {len(gaps)} classes (standard error {doubt:.1f}): {word}."
    )


# Fig. 7: accuracy against the number of training pictures a class.

COLOURS, MARKERS = (VERMILION, BLUE, GREEN, PURPLE, ORANGE), "osD^v"


@dataclass(frozen=True)
class Curve:
    """One way to classify.

    Attributes:
        name: Of it.
        points: Training pictures a class, accuracy in percent, and its spread or None.
    """

    name: str
    points: Sequence[tuple[int, float, float | None]]


def few_shot(curves: Sequence[Curve], printed: Mapping[str, Mapping[int, float | None]], data: str) -> Figure:
    """Draw ours beside what the paper prints for Caltech-256 (Fig. 7).

    Args:
        curves: Ours, the pre-trained network first.
        printed: The paper's accuracies by number of training pictures, by method.
        data: What ours were measured on.

    Raises:
        FigureError: There is nothing to draw.
    """
    if not curves:
        raise FigureError("Fig. 7 needs at least one curve")
    figure = Figure(3.9)
    ours, theirs = figure.subplots(1, 2, sharey=True)
    for curve, colour, marker in zip(curves, COLOURS, MARKERS, strict=False):
        each, values, spreads = zip(*curve.points, strict=True)
        bars = [spread or 0 for spread in spreads]
        style = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.4, "capsize": 2}
        ours.errorbar(each, values, bars, label=curve.name.replace("`", ""), **style)
    for (name, points), marker in zip(printed.items(), "sDvo", strict=False):
        known = {each: value for each, value in points.items() if value is not None}
        theirs.plot(*zip(*known.items(), strict=True), color=GREY, marker=marker, markersize=4, label=name)
    for axes, title in ((ours, f"Ours: {data}"), (theirs, "The paper, Caltech-256 (Table 4)")):
        axes.set_title(fill(title, 40), fontsize=NORMAL, loc="left")
        axes.set_xlabel("training pictures a class", fontsize=NORMAL)
        axes.tick_params(labelsize=SMALL)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", linewidth=0.4, alpha=0.5)
        axes.set_xlim(0, 63)
        axes.legend(fontsize=SMALL, framealpha=1, edgecolor="none")
    ours.set_ylabel("accuracy, mean over classes, %", fontsize=NORMAL)
    ours.set_ylim(0)
    figure.tight_layout()
    return figure
