"""Tables 1 and 2 and the curves of training: from stored records, or trained on the spot in `smoke`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from statistics import mean, stdev

import numpy as np
from matplotlib.ticker import MaxNLocator

from ..architecture import STEMS, TABLE_2
from ..datasets import DATASETS
from ..evaluation import errors
from ..files import results_root
from ..training import SMOKE, recipe_named
from . import numbers, records
from .plots import BLUE, GREEN, GREY, NORMAL, ORANGE, PURPLE, SMALL, VERMILION, Figure
from .setting import DATA, profile_of, trained_at_hand, training_of
from .tables import Note, Table
from .trainings import TABLE_1, Training, read_epochs, trained, training_data

CURVES = {
    "zfnet": ("zfnet", "all"),
    "krizhevsky": ("krizhevsky", "all"),
    "zfnet, not renormalised": ("zfnet", "none"),
}
"""The trainings whose curves are shown: network and clipping."""

SPLITS = {"train": "train top-1 error", "val1": "val top-1 error", "val5": "val top-5 error"}


@dataclass(frozen=True)
class Comparison:
    """A table of the paper beside ours.

    Attributes:
        table: One row a network: the paper's errors, ours with n and spread, the difference.
        points: For the plot: name, layers, parameters, the paper's and our validation top-1 error (or None).
        source: What it rests on.
    """

    table: Table
    points: list[dict]
    source: Note


@dataclass(frozen=True)
class Curves:
    """Trainings epoch by epoch.

    Attributes:
        epochs: By name of the training: one dict an epoch, as `training.EpochResult`; empty where none was run.
        filters: By name of the training, where its weights are at hand: the first layer's [maps, 3, k, k].
        classes: Of the data set.
        source: What they rest on.
    """

    epochs: dict[str, list[dict]]
    filters: dict[str, np.ndarray]
    classes: int
    source: Note

    @property
    def plateaus(self) -> Table:
        """When each training left ln(classes)."""
        rows = [
            {"training": name, "left": epochs[-1]["plateau_left"] if epochs else "not run"}
            for name, epochs in self.epochs.items()
        ]
        return Table({"training": "Training", "left": "Left the plateau at update"}, rows)


def table1(profile: str) -> Comparison:
    """Compare single networks and ensembles with Table 1.

    Args:
        profile: `smoke` trains on the spot; the others read the records of `zfnet train` and `zfnet evaluate`.
    """
    rows = []
    for members, row in zip(TABLE_1, numbers.own_rows("table_1"), strict=True):
        ours = _ensemble(profile, members)
        rows.append({"network": row["label"]} | _beside(row["values"], ours, ("val1", "val5")))
    return Comparison(Table(_columns(("val1", "val5")), rows), [], _basis(profile))


def table2(profile: str, seeds: int = 1) -> Comparison:
    """Compare every row of Table 2 with ours.

    Args:
        profile: `smoke` trains on the spot; the others read the records of `zfnet train`.
        seeds: Trainings a row in `smoke`; the others show all that there are.
    """
    rows, points = [], []
    for row, (name, spec) in zip(numbers.own_rows("table_2"), TABLE_2.items(), strict=True):
        ours = _row_errors(profile, name, seeds)
        rows.append({"network": f"`{name}`: {row['label']}"} | _beside(row["values"], ours, tuple(SPLITS)))
        points.append(
            {
                "name": name,
                "layers": len(spec.layers),
                "parameters": sum(spec.parameters().values()),
                "paper": row["values"]["val_top1"],
                "ours": mean(ours["val1"]) if ours else None,
            }
        )
    return Comparison(Table(_columns(tuple(SPLITS)), rows), points, _basis(profile))


def training(profile: str) -> Curves:
    """Return the learning curves of Fig. 3's network, of Krizhevsky's, and without renormalisation (Fig. 5a)."""
    epochs, filters = {}, {}
    for title, (name, clip) in CURVES.items():
        if profile_of(profile).name == "smoke":
            epochs[title] = trained(name, 0, clip).epochs
        else:
            run = training_of(profile, name, clip=clip)
            epochs[title] = [line["epoch"] for line in read_epochs(run.epochs_file)]
        net = trained_at_hand(profile, name, clip)
        if net:
            filters[title] = net.conv1.weight.detach().numpy()
    return Curves(epochs, filters, DATASETS[DATA[profile]].classes, _basis(profile))


def precisions(profile: str) -> Table:
    """Compare a training in bf16 with the same one in float32, epoch by epoch, as far as both went."""
    kinds = ("bfloat16", "float32")
    titles = {"loss": "training loss", "top1": "top-1 error, %", "plateau_left": "left the plateau at"}
    rows = [
        {"epoch": pair[0]["epoch"]}
        | {f"{kind} {key}": epoch[key] for kind, epoch in zip(kinds, pair, strict=True) for key in titles}
        for pair in zip(*(_epochs_in(profile, kind) for kind in kinds), strict=False)
    ]
    if not rows:
        command = f"`zfnet train zfnet --data {DATA[profile]} --recipe {profile} --precision float32`"
        return Table({"command": "Not run"}, [{"command": command}])
    columns = {f"{kind} {key}": f"{kind}, {title}" for key, title in titles.items() for kind in kinds}
    return Table({"epoch": "Epoch"} | columns, rows)


def contest(profile: str) -> Note:
    """Say whether Fig. 3's network beats Krizhevsky's here, and whether the spread over seeds allows to say so."""
    ours, theirs = ((_row_errors(profile, name, 1) or {}).get("val1", []) for name in ("zfnet", "krizhevsky"))
    if not ours or not theirs:
        return Note("Not run: the comparison needs a finished training of each.")
    lead = mean(theirs) - mean(ours)
    both = (
        f"Validation top-1 error: `zfnet` {_spread(ours)} % (n = {len(ours)}), `krizhevsky` {_spread(theirs)} % "
        f"(n = {len(theirs)}); `zfnet` is {abs(lead):.1f} points {'better' if lead > 0 else 'worse'}."
    )
    if min(len(ours), len(theirs)) < 2:
        return Note(f"{both} With one training of a network its spread is unknown: this decides nothing.")
    spread = (stdev(ours) ** 2 + stdev(theirs) ** 2) ** 0.5
    clear = "more" if abs(lead) > 2 * spread else "no more"
    return Note(f"{both} That is {clear} than twice the spread of such a difference, {spread:.1f} points.")


def _epochs_in(profile: str, precision: str) -> list[dict]:
    if profile_of(profile).name == "smoke":
        return trained("zfnet", 0, precision=precision).epochs
    run = Training("zfnet", DATA[profile], replace(recipe_named(profile), precision=precision))
    return [line["epoch"] for line in read_epochs(run.epochs_file)]


def missing_table(profile: str) -> Table:
    """Return the networks of Table 2 and the crossed stems that were not trained yet, each with its command."""
    if profile_of(profile).name == "smoke":
        return Table({"network": "Nothing is missing: all are trained on the spot"}, [])
    rows = [
        {"network": name, "command": f"`{training_of(profile, name).command} --resume`"}
        for name in TABLE_2 | STEMS
        if not training_of(profile, name).errors_file.exists()
    ]
    return Table({"network": "Not run", "command": "Command"}, rows)


def _row_errors(profile: str, name: str, seeds: int) -> dict[str, list[float]] | None:
    """Return a row's errors, one a seed; None where nothing was trained."""
    if profile_of(profile).name == "smoke":
        made = [trained(name, seed) for seed in range(seeds)]
        return {key: [getattr(one, key) for one in made] for key in SPLITS}
    stem = training_of(profile, name, 0).name.removesuffix("0")
    found: dict[str, list[float]] = {key: [] for key in SPLITS}
    for path in sorted((results_root(profile) / "errors").glob(f"{stem}*.jsonl")):
        for record in records.read(path):
            for key, quantity in SPLITS.items():
                if record.quantity == quantity and record.parameters["views"] == 1:
                    found[key].append(record.value)
    return found if found["val1"] else None


def _ensemble(profile: str, members: Sequence[tuple[str, int]]) -> dict[str, list[float]] | None:
    """Return the errors of averaged probabilities; stored ones are records of `zfnet evaluate`."""
    if profile_of(profile).name != "smoke":
        return _stored_ensemble(profile, members)
    found = errors([trained(name, seed).net for name, seed in members], training_data("shapes", "val"))
    return {"val1": [found.top1], "val5": [found.top5]}


def _stored_ensemble(profile: str, members: Sequence[tuple[str, int]]) -> dict[str, list[float]] | None:
    if len(members) == 1:
        return _row_errors(profile, members[0][0], 1)
    names = sorted(training_of(profile, name, seed).name for name, seed in members)
    stored = records.read(results_root(profile) / "errors" / "ensembles.jsonl")
    found = {
        key: [record.value for record in stored if record.quantity == SPLITS[key] and _is_of(record, names)]
        for key in ("val1", "val5")
    }
    return found if found["val1"] else None


def _is_of(record: records.Record, networks: list[str]) -> bool:
    return record.parameters["networks"] == networks and record.parameters["views"] == 1


def _beside(
    printed: dict[str, float], ours: dict[str, list[float]] | None, keys: Sequence[str]
) -> dict[str, object]:
    """Return the cells of one row: the paper's errors, ours, and how many trainings they rest on."""
    cells: dict[str, object] = {}
    for key in keys:
        paper_value = printed[{"train": "train_top1", "val1": "val_top1", "val5": "val_top5"}[key]]
        cells[f"paper_{key}"] = paper_value
        cells[f"ours_{key}"] = f"{_spread(ours[key])} ({mean(ours[key]) - paper_value:+.1f})" if ours else "not run"
    cells["n"] = len(ours["val1"]) if ours else 0
    return cells


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def _columns(keys: Sequence[str]) -> dict[str, str]:
    titles = {"train": "train top-1", "val1": "val top-1", "val5": "val top-5"}
    columns = {"network": "Network"}
    for key in keys:
        columns |= {f"paper_{key}": f"Paper, {titles[key]}", f"ours_{key}": f"Ours, {titles[key]} (difference)"}
    return columns | {"n": "n"}


def _basis(profile: str) -> Note:
    """Say what the numbers rest on."""
    if profile == "smoke":
        return Note(
            f"Trained on the spot: narrow networks, {SMOKE.expected}. So little training "
            f"tests the machinery; it is no evidence about depth or width."
        )
    files = (results_root(profile) / "trainings").glob("*.jsonl")
    recorded = (line for path in files for line in read_epochs(path))
    lines = [line for line in recorded if line["data"].startswith(f"{DATA[profile]} ")]
    if not lines:
        return Note(f"No training of the profile `{profile}` has been recorded.")
    facts = {key: sorted({line[key] for line in lines}) for key in ("training", "data")}
    made = {key: sorted({line["provenance"][key] for line in lines}) for key in ("device", "commit")}
    hours = sum(line["epoch"]["seconds"] for line in lines) / 3600
    return Note(
        f"Trainings: {len(facts['training'])}, on {', '.join(facts['data'])}; {hours:.1f} hours in all on "
        f"{', '.join(made['device'])}; commits {', '.join(commit[:10] for commit in made['commit'])}. One centre "
        f"view, dropout off."
    )


# Learning curves, and errors against depth and width (Table 2).

COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE)
MARKERS = "osD^v"


def curves(trainings: Mapping[str, Sequence[Mapping]], classes: int) -> Figure:
    """Draw the training loss, the validation error and the largest filter RMS of layer 1 over the epochs.

    Args:
        classes: A network that has learnt nothing has the loss ln(classes).
        trainings: By name: the epochs as dicts of `EpochResult`'s fields. One without epochs is left out.
    """
    trainings = {name: epochs for name, epochs in trainings.items() if epochs}
    figure = Figure(3.1)
    panels = left, middle, right = figure.subplots(1, 3)
    for (name, epochs), colour, marker in zip(trainings.items(), COLOURS, MARKERS, strict=False):
        x = [epoch["epoch"] for epoch in epochs]
        style = {"color": colour, "marker": marker, "markersize": 3.5, "linewidth": 1.4, "label": name}
        left.plot(x, [epoch["loss"] for epoch in epochs], **style)
        middle.plot(x, [epoch["top1"] for epoch in epochs], **style)
        right.plot(x, [next(iter(epoch["rms"].values()))[1] for epoch in epochs], **style)
    _mark(left, log(classes), f"ln({classes})")
    _mark(right, 0.1, "radius 0.1")
    for axes in panels:
        axes.margins(y=0.15)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _label(left, "Training loss", "epoch", "cross entropy, nats")
    _label(middle, "Validation error", "epoch", "top-1 error, %")
    _label(right, "Largest filter of layer 1", "epoch", "root mean square")
    if trainings:
        names = left.get_legend_handles_labels()
        legend = figure.legend(*names, loc="lower center", ncols=3, fontsize=SMALL, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)  # names may hold dollars
    else:
        left.text(0.5, 0.5, "not run", transform=left.transAxes, ha="center", fontsize=NORMAL, color=GREY)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    return figure


def depth_and_width(points: Sequence[Mapping]) -> Figure:
    """Draw validation errors of Table 2's networks against their layers and their parameters.

    Args:
        points: Dicts of name, layers, parameters, paper and ours (percent, or None).
    """
    figure = Figure(3.4)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, key, label in zip(
        panels, ("layers", "parameters"), ("layers with weights", "parameters"), strict=True
    ):
        for who, colour, marker in (("paper", BLUE, "o"), ("ours", VERMILION, "D")):
            known = [point for point in points if point[who] is not None]
            places = [point[key] for point in known], [point[who] for point in known]
            axes.plot(*places, marker, color=colour, markersize=5, label=who, alpha=0.8)
        _label(axes, "", label, "validation top-1 error, %" if axes is panels[0] else "")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[1].set_xscale("log")
    panels[0].legend(fontsize=SMALL, frameon=False)
    figure.tight_layout()
    return figure


def _mark(axes, level: float, name: str) -> None:
    """Draw a dashed line across and name it."""
    axes.axhline(level, color=GREY, linewidth=1, linestyle="--")
    place = (0.02, level), (0, 3)
    axes.annotate(name, *place, ("axes fraction", "data"), textcoords="offset points", fontsize=SMALL, color=GREY)


def _label(axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=NORMAL, loc="left")
    axes.set_xlabel(x, fontsize=NORMAL)
    axes.set_ylabel(y, fontsize=NORMAL)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)
