"""Tables 3, 4 and 6 beside the paper's, and the curve of Fig. 7."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import mean, stdev

from .. import paper
from ..datasets import DATASETS
from ..figures.fig7 import Curve
from ..recipes import recipe_named
from ..records import Record, read
from ..tables import Note, Table
from ..trainings import Training, performed
from .setting import profile_of
from .spot import scratch_training, train_from_scratch
from .transferring import CURVE, FOLDS, SOURCES, Source, accuracy, transferred

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
    for row in paper.contents()["tables"]["table_6"]["rows"]:
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
        for row in paper.contents()["tables"]["table_4"]["rows"]
    }
    curves = [curve for curve in curves if curve.points]
    return FewShot(curves, printed, _data(data), _few(curves), _notes((data,), found))


def _pretraining(profile: str, table: str, data: str, each: Sequence[int], live: bool) -> Compared:
    """Return Table 3 or 4: the paper's rows, then ours."""
    found = {source: transferred(profile, source, live) for source in SOURCES[profile] if source.data == data}
    columns = {"label": _data(data)} | {str(n): f"{n} a class, %" for n in each}
    rows = [
        {"label": f"{row['label']} (paper)"} | {str(n): _printed(row, f"train_{n}") for n in each}
        for row in paper.contents()["tables"][table]["rows"]
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
