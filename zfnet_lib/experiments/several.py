"""Table 5: pictures that show several objects, scored by VOC's average precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .. import paper
from ..datasets import Pooled
from ..files import results_root
from ..records import Record, Stopwatch, read, store
from ..tables import Note, Table
from ..trainings import training_data
from ..transfer import (
    Coordinates,
    average_precision,
    choose_decay,
    coordinates,
    extract,
    fit_softmax,
    mean_precision,
    precision_gain,
)
from .setting import describe_pictures, profile_of
from .transfer_tables import Compared
from .transferring import extractor_of, is_fresh

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
    printed = {row["label"].lower(): row["values"] for row in paper.contents()["tables"]["table_5"]["rows"]}
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
