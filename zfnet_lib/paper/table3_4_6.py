"""Tables 3, 4 and 6: linear classifiers on frozen features of many sources, over the paper's folds.

`SOURCES` says what is tried, `transfer_records` measures it; Fig. 7 and the claims read the same records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise, product, starmap, takewhile
from statistics import mean, stdev
from time import perf_counter
from typing import NamedTuple

import torch
from torch.nn import functional as F
from tqdm import tqdm

from ..architecture import MINI
from ..datasets import DATASETS
from ..files import results_root
from ..machine import threads
from ..network import ConvNet
from ..training import recipe_named
from . import trainings, transfer
from .records import Record, Sentence, Stopwatch, Table, contents, is_fresh, mean_and_spread, read, store
from .setting import describe_pictures, network_of, profile_of, source_of
from .trainings import Training, recorded_errors

FOLDS = 5
ACCURACY = "accuracy, mean over classes"
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc7")  # those of Table 6
CURVE = (1, 2, 3, 4, 6, 10, 15, 30, 45, 60)  # training pictures a class of Fig. 7

PLACE = {
    "smoke": ("shapes-transfer", "shapes-transfer"),
    "tiny": ("caltech-101", "mini-imagenet-novel"),
    "paper": ("caltech-101", "caltech-256"),
}
"""What stands for Caltech-101 and for Caltech-256."""


DAGGER = (
    " † A downloaded network, torchvision's AlexNet: layer 5 and not 7, trained on ImageNet's pictures, "
    "among which nobody looked for those of Caltech-101. Its rows decide no claim about other methods."
)


class Trial(NamedTuple):
    """A classifier, `svm` or `softmax`, on one layer's features, with some training pictures a class."""

    layer: str
    classifier: str
    each: int


@dataclass(frozen=True)
class Source:
    """What gives features, and what is tried with them on one data set."""

    name: str  # weights, `NAME, untrained` for the same layers with random weights, `hog` or `pixels`
    data: str
    trials: tuple[Trial, ...]
    background: bool = False  # Caltech-101's background counts as one more class

    @property
    def record(self) -> str:
        """Name of its file of records."""
        background = "-with-background" * self.background
        return f"{self.name.replace(', ', '-')}--{self.data}{background}.jsonl"

    @property
    def pretrained(self) -> bool:
        """Whether it is a trained network, on the classes of the tables."""
        return not self.name.endswith(("untrained", "hog", "pixels")) and not self.background

    @property
    def title(self) -> str:
        """What the tables call it."""
        mark = " †" if self.name.startswith("alexnet") else ""
        return f"`{self.name}`{mark}" + (", 102 classes with the background" if self.background else "")


def _trials(layers: Sequence[str], classifier: str, each: Sequence[int]) -> tuple[Trial, ...]:
    return tuple(starmap(Trial, product(layers, [classifier], each)))


def _compared(name: str, data: str, each: Sequence[int], curve: Sequence[int] = ()) -> tuple[Source, ...]:
    """Return what is tried with a network that has layers 1 to 7, and with its controls, on one data set."""
    most = each[-1:]
    layers = _trials(LAYERS, "svm", most) + _trials(["conv5"], "softmax", most)
    best = _trials(["conv3", "conv5"], "svm", each[:-1])  # the best layer of our network, and of the paper's
    own = tuple(dict.fromkeys(_trials(["fc7"], "softmax", (*curve, *each))))
    few = _trials(["conv5"], "svm", each[:-1]) + _trials(["fc7"], "softmax", each)
    controls = {one: _trials([one], "svm", each) + _trials([one], "softmax", most) for one in ("hog", "pixels")}
    tried = {name: layers + best + own, f"{name}, untrained": layers + few} | controls
    return tuple(Source(one, data, trials) for one, trials in tried.items())


_conv5 = _trials(["conv5"], "softmax", (15, 30))
SOURCES: dict[str, tuple[Source, ...]] = {
    "smoke": _compared("mini", "shapes-transfer", (15, 30), CURVE[:-2]),
    "tiny": (
        Source("alexnet-imagenet", "caltech-101", _trials(LAYERS[:5], "svm", (15, 30)) + _conv5),
        Source("alexnet-imagenet", "caltech-101", _trials(["conv5"], "svm", (15, 30)) + _conv5, background=True),
        *_compared("zfnet-tiny", "caltech-101", (15, 30)),
        *_compared("zfnet-tiny", "mini-imagenet-novel", (15, 30, 45, 60), CURVE),
    ),
    "paper": (
        *_compared("zfnet-imagenet-paper-seed0", "caltech-101", (15, 30)),
        *_compared("zfnet-imagenet-paper-seed0", "caltech-256", (15, 30, 45, 60), CURVE),
    ),
}
"""What each profile compares."""


def transferred(profile: str, source: Source, live: bool = False) -> list[Record]:
    """Return a source's accuracies: computed where `live` and in `smoke`, else as stored, if they are."""
    path = results_root(profile_of(profile).name) / "transfer" / source.record
    if live or (profile == "smoke" and not is_fresh(path)):
        store(path, transfer_records(source))
    return read(path)


def transfer_records(source: Source) -> Iterator[Record]:
    """Measure a source's trials over the paper's folds; yield mean accuracies with their spread over folds."""
    watch, undivided = Stopwatch(), trainings.undivided
    data = trainings.training_data(source.data, "with-background") if source.background else undivided(source.data)
    folds, labels, classes = transfer.protocol_folds(data, count=FOLDS), data.labels, len(data.classes)
    layers = tuple(dict.fromkeys(trial.layer for trial in source.trials))
    found = transfer.extract(extractor_of(source.name, layers), data)

    def judged(fold: transfer.Fold) -> tuple[float, float, float]:
        """Return the accuracy in percent, the seconds of the training, and the chosen weight decay or 0."""
        train = fold.train(trial.each)
        x, x_test = transfer.coordinates(kernel, train, fold.test)
        start, decay = perf_counter(), 0.0
        if trial.classifier == "svm":
            svm = transfer.fit_svm(x, labels[train])
            seconds = perf_counter() - start
            answers = svm.predict(x_test.numpy())
        else:
            weight, bias, decay = transfer.fit_labels(x, labels[train], classes)
            seconds = perf_counter() - start
            answers = F.linear(x_test, weight, bias).argmax(1).numpy()
        return transfer.per_class_accuracy(labels[fold.test], answers), seconds, decay

    kernel_of = lru_cache(maxsize=1)(lambda layer: found[layer].kernel())  # so large that one is kept at a time
    trials = sorted(source.trials, key=lambda trial: layers.index(trial.layer))
    for trial in tqdm(trials, f"{source.name} on {source.data}", unit="classifier", delay=1):
        kernel = kernel_of(trial.layer)
        if trial.classifier == "softmax":  # its products use all cores
            answers = [judged(fold) for fold in folds]
        else:
            with threads(torch.get_num_threads(), each=1) as pool:
                answers = list(pool.map(judged, folds))
        accuracies, seconds, decays = (list(values) for values in zip(*answers, strict=True))
        facts = trial._asdict() | {"folds": accuracies, "classes": classes}
        facts |= {"dimensions": next(found[trial.layer].parts()).shape[1], "fit_seconds": round(mean(seconds), 2)}
        facts |= {"decays": decays} if trial.classifier == "softmax" else {}
        told = {"n": len(accuracies), "spread": stdev(accuracies), "parameters": facts}
        told |= {"spec": source.name, "data": describe_pictures(data)}
        yield Record("transfer", ACCURACY, mean(accuracies), "%", watch.provenance(), **told)


def extractor_of(name: str, layers: Sequence[str]):
    """Return what makes features: a network's layers, the same untrained, or a control by its name."""
    if name in ("hog", "pixels"):
        return transfer.Control(name)
    weights, _, untrained = name.partition(", ")
    net = network_of("smoke", weights)
    if untrained:
        net = ConvNet(net.spec, net.preparation, seed=0).eval()
    return transfer.NetworkFeatures(name, net, layers)


def accuracy(records: Sequence[Record], layer: str, classifier: str, each: int) -> Record | None:
    """Return the record of one trial."""
    trial = Trial(layer, classifier, each)._asdict()
    return next((one for one in records if trial.items() <= one.parameters.items()), None)


def best_trial(records: Sequence[Record], each: int) -> Record | None:
    """Return the record of a source's best layer and classifier with so many pictures a class."""
    tried = (one for one in records if one.parameters["each"] == each)
    return max(tried, key=lambda one: one.value, default=None)


def scratch_trainings(profile: str, data: str, each: int) -> list[Training]:
    """Return the trainings from scratch that Tables 3 and 4 compare with, one on each of the paper's folds."""
    network, epochs = (MINI.name, 40) if profile == "smoke" else ("zfnet", 160)
    recipe = replace(recipe_named(profile), epochs=epochs)
    return [trainings.performed(Training(network, data, recipe, fold, each)) for fold in range(FOLDS)]


def scratch_accuracies(profile: str, data: str, each: int) -> list[float]:
    """Return the stored accuracies of the trainings from scratch, in percent, of as many first folds as ran."""
    error = "test mean per-class error"
    found = (recorded_errors(run.errors_file) for run in scratch_trainings(profile, data, each))
    return [100 - errors[error] for errors in takewhile(lambda errors: error in errors, found)]


def scratch(profile: str, data: str, each: int) -> list[float]:
    """Return the same; in `smoke` two folds are trained on the spot."""
    for run in scratch_trainings(profile, data, each)[:2] if profile == "smoke" else ():
        trainings.trained(run)
    return scratch_accuracies(profile, data, each)


class Compared(NamedTuple):
    """The paper's rows, then ours; what came out; and what the rows rest on."""

    table: Table
    verdict: Sentence
    notes: Sentence


def table3(profile: str, live: bool = False) -> Compared:
    """Compare accuracies on Caltech-101 with Table 3."""
    return _pretraining(profile, 3, (15, 30), live)


def table4(profile: str, live: bool = False) -> Compared:
    """Compare accuracies on Caltech-256, or what stands for it, with Table 4."""
    return _pretraining(profile, 4, (15, 30) if profile == "smoke" else (15, 30, 45, 60), live)


def _pretraining(profile: str, number: int, each: Sequence[int], live: bool) -> Compared:
    data, theirs = PLACE[profile_of(profile).name][number - 3], ("Caltech-101", "Caltech-256")[number - 3]
    found = {source: transferred(profile, source, live) for source in SOURCES[profile] if source.data == data}
    rows = []
    for row in contents()["tables"][f"table_{number}"]["rows"]:
        spreads = row.get("plus_minus") or {}
        cells = {str(n): _printed(row["values"].get(f"train_{n}"), spreads.get(f"train_{n}")) for n in each}
        rows.append({"label": f"{row['label']} (paper, {theirs})"} | cells)
    from_scratch = {n: scratch(profile, data, n) for n in each}
    whole = {n: scratch("paper", data, n) for n in each} if profile == "tiny" else {}
    for label, values in {"From scratch": from_scratch, "From scratch, 224 pixels": whole}.items():
        if values is from_scratch or any(values.values()):
            shown = {
                n: f"{mean_and_spread(one)} (n = {len(one)})" if one else "not run" for n, one in values.items()
            }
            rows.append({"label": label} | {str(n): words for n, words in shown.items()})
    for source, records in found.items():
        if not records:
            command = f"`zfnet run table{number} --profile {profile} --live`"
            rows.append({"label": source.title, str(each[0]): f"not run: {command}"})
            continue
        for layer, classifier in dict.fromkeys((trial.layer, trial.classifier) for trial in source.trials):
            tried = {str(n): _shown(accuracy(records, layer, classifier, n)) or "not run" for n in each}
            compared = layer in ("fc7", "conv5", "hog", "pixels") and "not run" not in tried.values()
            if compared or (source.pretrained and classifier == "svm" and layer in ("conv3", "conv5")):
                name = layer[-1] if layer[-1].isdigit() else layer
                rows.append({"label": f"{source.title}, {classifier} ({name})"} | tried)
    said = []
    for n in each:  # the softmax on layer 7 of the profile's own network
        own = (accuracy(records, "fc7", "softmax", n) for source, records in found.items() if source.pretrained)
        ours = next(filter(None, own), None)
        if ours and (values := from_scratch[n]):
            gaps = [own - other for own, other in zip(ours.parameters["folds"], values, strict=False)]
            side = "above" if mean(gaps) > 0 else "below"
            lead = mean_and_spread([gap if mean(gaps) > 0 else -gap for gap in gaps])
            said.append(
                f"With {n} pictures a class pre-training lies {lead} points {side} training from scratch "
                f"(n = {len(gaps)})."
            )
    if missing := [str(n) for n in each if not from_scratch[n]]:
        said.append(f"From scratch with {', '.join(missing)} a class: not run.")
    runs = [run for n in each for run in scratch_trainings(profile, data, n) if run.errors_file.exists()]
    kinds = " and ".join(dict.fromkeys(run.recipe.precision for run in runs))
    trained = [one for run in runs for one in read(run.errors_file)]
    basis = f"{notes(found)} From scratch, in {kinds}: {_made(trained)}." if runs else notes(found)
    columns = {"label": f"Ours: {DATASETS[data].title}"} | {str(n): f"{n} a class, %" for n in each}
    return Compared(Table(columns, rows), Sentence(" ".join(said)), Sentence(basis))


def table6(profile: str, live: bool = False) -> Compared:
    """Compare what each layer's features tell with Table 6; the control is the same network untrained."""
    tried = SOURCES[profile_of(profile).name]
    sources = [source for source in tried if source.pretrained or source.name.endswith("untrained")]
    columns = {"label": "Features", "caltech_101_30": "Paper, Cal-101", "caltech_256_60": "Paper, Cal-256"}
    rows = {}
    for row in contents()["tables"]["table_6"]["rows"]:
        cells = {key: _printed(row["values"][key], row["plus_minus"][key]) for key in list(columns)[1:]}
        layer = f"{'fc' if row['layer'] > 5 else 'conv'}{row['layer']}"
        rows[layer, row["classifier"]] = {"label": row["label"]} | cells
    said, found = [], {source: transferred(profile, source, live) for source in sources}
    for source, records in found.items():
        most, title = max(trial.each for trial in source.trials), DATASETS[source.data].title
        columns[f"{source.title}, {title}"] = f"{source.title}, {title.partition(',')[0]}"
        for (layer, classifier), row in rows.items():
            row[f"{source.title}, {title}"] = _shown(accuracy(records, layer, classifier, most))
        if not source.pretrained:
            continue
        values = [accuracy(records, layer, "svm", most) for layer in LAYERS[:5]]
        word = "not run."
        if all(values):
            rises = all(upper.value > lower.value for lower, upper in pairwise(values))
            word = f"{'rises' if rises else 'does not rise'} with every layer from 1 to 5 "
            word += f"({values[0].value:.1f} to {values[-1].value:.1f} %)."
        said.append(f"{source.title} on {title}: {word}")
    return Compared(Table(columns, list(rows.values())), Sentence(" ".join(said)), notes(found))


def notes(found: dict[Source, list[Record]]) -> Sentence:
    """Say how the numbers were made, where, and what is missing."""
    records = [record for group in found.values() for record in group]
    if not records:
        return Sentence("Nothing is stored here yet.")
    dagger = DAGGER * any(source.name.startswith("alexnet") for source in found)
    pictures = "; ".join(dict.fromkeys(record.data for record in records))
    seconds = sum(source_of(group).provenance.seconds for group in found.values() if group)
    return Sentence(
        f"Mean over classes and ± the standard deviation over {max(record.n for record in records)} folds. "
        f"{pictures}. Computed in {seconds / 60:.1f} minutes {_made(records)}.{dagger}"
    )


def _made(records: Sequence[Record]) -> str:
    """Say on which machines records were computed, by which commits."""
    runs = (one.provenance for one in records)
    made = (f"on {run.device}, torch {run.versions['torch']}, commit {run.commit[:10]}" for run in runs)
    return "; ".join(dict.fromkeys(made))


def _shown(record: Record | None) -> str:
    return "" if record is None else f"{record.value:.1f} ± {record.spread:.1f}"


def _printed(value: float | None, spread: float | None) -> str:
    return "" if value is None else f"{value}" + (f" ± {spread}" if spread is not None else "")
