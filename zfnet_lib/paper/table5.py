"""Table 5: pictures that show several objects, under two losses, by VOC's average precision (section 5.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..datasets import Pooled
from ..files import results_root
from . import transfer
from .records import Record, Sentence, Stopwatch, Table, contents, is_fresh, read, store
from .setting import describe_pictures, profile_of
from .table3_4_6 import Compared, extractor_of
from .trainings import training_data

ENOUGH = 16
"""Pictures that must show a class before its average precision is worth reporting."""

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

SPELT = {"aeroplane": "airplane", "diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "tv"}
"""The paper's names where they differ from the data set's."""


def table5(profile: str, live: bool = False) -> Compared:
    """Compare average precisions on PASCAL VOC 2012, or on scenes of `shapes`, with Table 5."""
    network, layer, data = TRIED[profile_of(profile).name]
    path = several_file(profile)
    if live or (profile == "smoke" and not is_fresh(path)):
        store(path, several_records(data, ((network, layer), ("hog", "hog"))))
    found = read(path)
    if not found:
        command = f"`zfnet run table5 --profile {profile} --live`"
        return Compared(Table({"command": "Not run"}, [{"command": command}]), Sentence(""), Sentence(""))
    printed = PRINTED if data == "voc-2012" else {}
    softmax, logistic = f"{network} softmax", f"{network} logistic"
    ways = {softmax: f"`{network}`, softmax", logistic: f"`{network}`, logistic", "hog softmax": "`hog`, softmax"}
    classes: dict[str, dict] = {}
    for record in (one for one in found if one.quantity == PRECISION):
        row = classes.setdefault(record.parameters["class"], {"positives": record.n})
        row[f"{record.spec} {record.parameters['loss']}"] = record.value
    theirs = {row["label"].lower(): row["values"] for row in contents()["tables"]["table_5"]["rows"]}
    ours = {SPELT.get(name, name): row for name, row in classes.items()}
    if printed:  # in the paper's order, with the classes that too few of our pictures show
        ours = {name: ours.get(name, {}) | values for name, values in theirs.items()}
    means, won = {"class": "**mean**, of what a column has"}, {"class": "**# won**, of what a column has"}
    for kind in (ways, printed):
        known = [row for row in ours.values() if all(key in row for key in kind)]
        for key in kind:
            means[key] = float(np.mean([row[key] for row in known]))
            won[key] = sum(row[key] == max(row[other] for other in kind) for row in known)
    rows = [
        {key: round(value, 1) if isinstance(value, float) else value for key, value in row.items()}
        for row in [*({"class": name} | row for name, row in ours.items()), means, won]
    ]
    gaps = [row[logistic] - row[softmax] for row in classes.values()]
    gap, doubt = np.mean(gaps), float(np.std(gaps, ddof=1) / len(gaps) ** 0.5)
    word = "beyond" if abs(gap) > 2 * doubt else "within"
    verdict = Sentence(
        f"A loss that permits several objects changes the average precision by {gap:+.1f} points on "
        f"average over {len(gaps)} classes (standard error over classes {doubt:.1f}), {word} two standard errors."
    )
    made, animals = found[-1].provenance, ""
    if profile == "tiny":
        animals = " Most of these pictures show animals: no mean over them compares with the paper's."
    notes = Sentence(
        f"Ours: {len(classes)} classes with at least {ENOUGH} pictures.{animals} {found[0].data}, each part of "
        f"{found[0].parameters['parts']} scored by what learnt from the others; "
        f"computed in {made.seconds:.0f} s on {made.device}, commit {made.commit[:10]}."
    )
    return Compared(Table({"class": "Class", "positives": "Pictures"} | printed | ways, rows), verdict, notes)


def several_file(profile: str) -> Path:
    """Return where the records of Table 5 lie."""
    return results_root(profile) / "transfer" / f"several--{TRIED[profile_of(profile).name][2]}.jsonl"


def several_records(data: str, sources: Sequence[tuple[str, str]]) -> Iterator[Record]:
    """Measure the average precision of every class that enough pictures show, and what raises it.

    The pictures are split into parts, each scored by classifiers that learnt from the others.
    """
    scenes = data.startswith("shapes")
    pictures = Pooled([training_data(data, split) for split in (["val"] if scenes else ["train", "val"])])
    labels, parts, scores, watch = pictures.labels, 2 if scenes else 8, {}, Stopwatch()
    record = partial(Record, "transfer", data=describe_pictures(pictures))
    part_of, learnt = np.arange(len(pictures)) % parts, (labels == 1).any(1)

    def score(logits: Tensor, judged: np.ndarray) -> float:
        known = labels[train][judged]
        return transfer.mean_precision(known, logits.numpy(), _common(known, least=1))

    for name, layer in sources:
        kernel = transfer.extract(extractor_of(name, (layer,)), pictures)[layer].kernel()
        decay: dict[str, float] = {}
        scores |= {(name, loss): np.zeros(labels.shape, np.float32) for loss in LOSSES}
        for part in tqdm(range(parts), f"{name}, parts", delay=5):
            train, test = np.flatnonzero(learnt & (part_of != part)), np.flatnonzero(part_of == part)
            x, x_test = transfer.coordinates(kernel, train, test)
            present = torch.from_numpy(labels[train] == 1).float()
            for loss, several in LOSSES.items():
                targets = present if several else present / present.sum(1, keepdim=True)
                if not part:  # one decay for all parts, whose scores are ranked together
                    decay[loss] = transfer.choose_decay(x, targets, score, several)
                found = transfer.fit_softmax(x, targets, decay[loss], several)
                scores[name, loss][test] = F.linear(x_test, *found).numpy()
        for loss, label in product(LOSSES, _common(labels)):
            value = transfer.average_precision(labels[:, label], scores[name, loss][:, label])
            facts = {"class": pictures.classes[label], "loss": loss, "layer": layer}
            facts |= {"decay": decay[loss], "parts": parts}
            n = int((labels[:, label] == 1).sum())
            yield record(PRECISION, value, "%", watch.provenance(), n, parameters=facts, spec=name)
    (network, layer), (control, _) = sources  # the features, then what they must beat
    softmax = scores[network, "softmax"]
    pairs = {BY_LOSS: (scores[network, "logistic"], softmax), BY_FEATURES: (softmax, scores[control, "softmax"])}
    for by, (some, others) in pairs.items():
        for shown, rows, classes in kinds(labels):
            gain, error = transfer.precision_gain(labels[rows], some[rows], others[rows], classes)
            facts = {"by": by, "shown": shown, "layer": layer, "classes": [pictures.classes[c] for c in classes]}
            facts |= {"low": gain - 2 * error, "high": gain + 2 * error}
            yield record(GAIN, gain, "points", watch.provenance(), len(rows), parameters=facts, spec=network)


def kinds(labels: np.ndarray) -> Iterator[tuple[str, np.ndarray, list[int]]]:
    """Yield the pictures of one object and those of several, with the classes that enough of both show."""
    objects = (labels == 1).sum(1)
    rows = {ONE: np.flatnonzero(objects == 1), SEVERAL: np.flatnonzero(objects > 1)}
    # Only over the same classes can the two be compared; scenes of `shapes` always show several objects.
    classes = {shown: found for shown, some in rows.items() if (found := set(_common(labels[some])))}
    shared = sorted(set.intersection(*classes.values())) if classes else []
    yield from ((shown, rows[shown], shared) for shown in classes if shared)


def _common(labels: np.ndarray, least: int = ENOUGH) -> list[int]:
    """Return the classes that at least so many pictures show."""
    return np.flatnonzero((labels == 1).sum(0) >= least).tolist()
